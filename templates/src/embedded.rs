//! Files carried inside the program.

/// A file as it was when the program was built.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// Its path in the repository, such as `templates/axum/src/main.rs`.
    pub(crate) path: &'static str,
    /// Whether it can be executed.
    pub(crate) executable: bool,
    /// What is in it.
    pub(crate) content: &'static [u8],
}

/// All of them, in the order of their paths.
static FILES: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files below a folder, with their paths within it.
pub(crate) fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static Embedded)> {
    FILES.iter().filter_map(move |file| {
        let within = file.path.strip_prefix(folder)?.strip_prefix('/')?;
        Some((within, file))
    })
}

/// The text of one file.
pub(crate) fn text(path: &str) -> &'static str {
    FILES
        .iter()
        .find(|file| file.path == path)
        .and_then(|file| std::str::from_utf8(file.content).ok())
        .unwrap_or_default()
}
