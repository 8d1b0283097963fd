//! `JUnit` XML of what was checked.
//!
//! Source: the schema that Jenkins publishes for its `JUnit` plug-in (`junit-10.xsd`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::view::{Case, Verdict};

/// Writes every check as a test case, by suite.
pub(crate) fn render(cases: &[Case]) -> String {
    let mut suites: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        suites.entry(&case.suite).or_default().push(case);
    }
    let failed = |cases: &[&Case]| {
        let failed = |case: &&&Case| matches!(case.verdict, Verdict::Failed(_));
        cases.iter().filter(failed).count()
    };
    let skipped = |cases: &[&Case]| {
        let skipped = |case: &&&Case| matches!(case.verdict, Verdict::Skipped(_));
        cases.iter().filter(skipped).count()
    };
    let all: Vec<&Case> = cases.iter().collect();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"platform\" tests=\"{}\" failures=\"{}\">",
        all.len(),
        failed(&all)
    );
    for (suite, cases) in suites {
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
            escaped(suite),
            cases.len(),
            failed(&cases),
            skipped(&cases)
        );
        for case in cases {
            let _ = write!(
                xml,
                "    <testcase classname=\"platform.{}\" name=\"{}\"",
                escaped(suite),
                escaped(&case.name)
            );
            match &case.verdict {
                Verdict::Passed => xml.push_str("/>\n"),
                Verdict::Failed(why) => {
                    let _ = writeln!(xml, "><failure message=\"{}\"/></testcase>", escaped(why));
                }
                Verdict::Skipped(why) => {
                    let _ = writeln!(xml, "><skipped message=\"{}\"/></testcase>", escaped(why));
                }
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push('\t'),
            // XML 1.0 has no way to write other control characters.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_become_cases_of_their_suite() {
        let case = |name: &str, verdict| Case {
            suite: "health".to_owned(),
            name: name.to_owned(),
            verdict,
        };
        let failed = Verdict::Failed("<\"&\u{1b}>".to_owned());
        insta::assert_snapshot!(
            render(&[case("orders", Verdict::Passed), case("web", failed)]),
            @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="platform" tests="2" failures="1">
          <testsuite name="health" tests="2" failures="1" errors="0" skipped="0">
            <testcase classname="platform.health" name="orders"/>
            <testcase classname="platform.health" name="web"><failure message="&lt;&quot;&amp;�&gt;"/></testcase>
          </testsuite>
        </testsuites>
        "#
        );
    }
}
