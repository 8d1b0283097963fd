//! What is read of a Dockerfile here; the rest is BuildKit's.

use std::collections::{BTreeMap, BTreeSet};

use platform_image::reference;

/// The registries that a Dockerfile takes images from.
///
/// - `args`: what the build is told for its arguments; others have what the lines before the first `FROM` say
pub(crate) fn registries(dockerfile: &str, args: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut stages: BTreeSet<String> = BTreeSet::new();
    let mut images: BTreeSet<String> = BTreeSet::new();
    let mut begun = false;
    for line in dockerfile.replace("\\\n", " ").lines() {
        let Some((instruction, rest)) = line.trim().split_once(char::is_whitespace) else {
            continue;
        };
        let mut words = rest.split_whitespace();
        match instruction.to_ascii_uppercase().as_str() {
            "ARG" if !begun => {
                for word in words {
                    let (name, value) = word.split_once('=').unwrap_or((word, ""));
                    let value = args
                        .get(name)
                        .map_or(value.trim_matches(['"', '\'']), String::as_str);
                    known.insert(name.to_owned(), value.to_owned());
                }
            }
            "FROM" => {
                begun = true;
                let image = words.find(|word| !word.starts_with("--"));
                images.extend(image.map(|image| filled_in(image, &known)));
                if words
                    .next()
                    .is_some_and(|word| word.eq_ignore_ascii_case("as"))
                {
                    stages.extend(words.next().map(str::to_lowercase));
                }
            }
            "COPY" | "ADD" | "RUN" => {
                // `--from=IMAGE`, and `--mount=type=bind,from=IMAGE,…`.
                let flags = words.take_while(|word| word.starts_with("--"));
                let parts = flags.flat_map(|flag| flag.trim_start_matches("--").split(','));
                images.extend(
                    parts
                        .filter_map(|part| part.strip_prefix("from="))
                        .map(str::to_owned),
                );
            }
            _ => {}
        }
    }
    images
        .iter()
        .filter(|image| !stages.contains(&image.to_lowercase()))
        // What names no image, such as a stage's number, is the engine's to refuse.
        .filter(|image| image.parse::<usize>().is_err() && *image != "scratch")
        .filter_map(|image| reference::registry_of(image).ok())
        .collect()
}

/// A text with the values of arguments in place of `$NAME`, `${NAME}` and `${NAME:-OTHERWISE}`.
fn filled_in(text: &str, known: &BTreeMap<String, String>) -> String {
    let value = |name: &str| known.get(name).filter(|value| !value.is_empty());
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braces = after
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'));
        let (name, otherwise, left) = if let Some((inside, left)) = braces {
            let (name, otherwise) = inside.split_once(":-").unwrap_or((inside, ""));
            (name, otherwise, left)
        } else {
            let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
            let (name, left) = after.split_at(after.find(ends).unwrap_or(after.len()));
            (name, "", left)
        };
        out.push_str(value(name).map_or(otherwise, String::as_str));
        rest = left;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_read_from_the_lines_that_name_images() {
        let text = "# FROM nowhere\n\
                    ARG HOST=quay.io\nARG BASE=\"$HOST/base\" TAG\nARG OTHER=x.example.com/a\n\
                    FROM --platform=linux/amd64 ghcr.io/me/base:1 AS build\nfrom debian\nFROM scratch\n\
                    FROM ${HOST}/${NAME:-tool}:${TAG:-1} as Tool\nFROM $OTHER\n\
                    COPY --from=build /a /b\nCOPY --chown=1 --from=tools.example.com/t:2 /a /b\nCOPY --from=0 /a /b\n\
                    RUN --mount=type=bind,from=mounts.example.com/m,target=/m true\nCOPY from=no.example.com/x /\n";
        let args = BTreeMap::from([("OTHER".to_owned(), "told.example.com/b".to_owned())]);
        let found: Vec<String> = registries(text, &args).into_iter().collect();
        assert_eq!(
            found,
            [
                "docker.io",
                "ghcr.io",
                "mounts.example.com",
                "quay.io",
                "told.example.com",
                "tools.example.com"
            ]
        );
    }
}
