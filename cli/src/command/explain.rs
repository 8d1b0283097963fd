use serde_json::{Value, json};

use crate::codes::{self, Explained};
use crate::error::CliError;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::{Cell, Table};
use crate::view::Shown;
use crate::world::World;

/// Tell more about an error's code, or list all of them
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as `lock::held`
    code: Option<String>,
}

struct All(Vec<Explained>);

fn line(known: &Explained) -> Value {
    let mut line = json!({ "code": known.code, "title": known.title, "text": known.text });
    if let Some(example) = known.example {
        line["example"] = example.into();
    }
    line
}

impl Shown for All {
    fn kind(&self) -> &'static str {
        "codes"
    }

    fn json(&self) -> Value {
        json!({ "codes": self.0.iter().map(line).collect::<Vec<_>>() })
    }

    fn human(&self, paint: Paint) -> String {
        let mut table = Table::new(&["CODE", "MEANS"]);
        for known in &self.0 {
            table.row(vec![Cell::from(&*known.code), Cell::from(&*known.title)]);
        }
        table.render(paint)
    }
}

struct One(Explained);

impl Shown for One {
    fn kind(&self) -> &'static str {
        "code"
    }

    fn json(&self) -> Value {
        line(&self.0)
    }

    fn human(&self, paint: Paint) -> String {
        let Explained {
            code,
            title,
            text,
            example,
        } = &self.0;
        let mut shown = format!("{}: {title}\n\n{}\n", paint.bold(code), wrapped(text, 80));
        if let Some(example) = example {
            shown.push_str("\nA blueprint that has the problem:\n\n");
            for line in example.lines() {
                shown.push_str(format!("    {line}").trim_end());
                shown.push('\n');
            }
        }
        shown
    }
}

/// Breaks a text at spaces.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if 0 < line && width < line + 1 + word.chars().count() {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

pub(crate) fn run(args: &ExplainArgs, world: &World) -> Result<Exit, CliError> {
    let Some(code) = &args.code else {
        world.view.show(&All(codes::all()));
        return Ok(Exit::Done);
    };
    if let Some(known) = codes::explain(code) {
        world.view.show(&One(known));
        return Ok(Exit::Done);
    }
    let all = codes::all();
    let nearest = all
        .iter()
        .map(|known| (strsim::jaro_winkler(&known.code, code), &known.code))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let help = match nearest {
        Some((near, code)) if 0.8 < near => format!("did you mean `{code}`?"),
        _ => "run `platform explain` to list all codes".to_owned(),
    };
    Err(CliError::new("usage::unknown-code", format!("there is no code `{code}`")).help(help))
}
