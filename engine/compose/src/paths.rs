//! Paths in Compose files, which are from the folder of the file that they stand in.

use std::path::{Component, Path, PathBuf};

use crate::node::{Node, Value};

/// Has the paths of a file begin in the folder of the first one.
pub(crate) fn rebase(root: &mut Node, folder: &Path) {
    if folder.as_os_str().is_empty() {
        return;
    }
    let moved = |node: &mut Node| {
        if let Value::Text(path) = &mut node.value {
            *path = shown(&joined(folder, path));
        }
    };
    let services = root.get_mut("services").into_iter();
    for (_, service) in services.flat_map(Node::entries_mut) {
        if let Some(build) = service.get_mut("build") {
            match build.value {
                Value::Text(_) => moved(build),
                _ => build.get_mut("context").into_iter().for_each(moved),
            }
        }
        if let Some(files) = service.get_mut("env_file") {
            for file in files.each_mut() {
                match file.value {
                    Value::Text(_) => moved(file),
                    _ => file.get_mut("path").into_iter().for_each(moved),
                }
            }
        }
        if let Some(volumes) = service.get_mut("volumes") {
            for volume in volumes.each_mut() {
                match &mut volume.value {
                    Value::Text(text) if text.starts_with('.') => {
                        if let Some((source, rest)) = text.split_once(':') {
                            *text = format!("{}:{rest}", shown(&joined(folder, source)));
                        }
                    }
                    Value::Text(_) => {}
                    _ => {
                        let is_bind = volume.get("type").and_then(Node::text) == Some("bind");
                        let source = volume.get_mut("source").filter(|_| is_bind);
                        source.into_iter().for_each(moved);
                    }
                }
            }
        }
    }
    for kind in ["configs", "secrets"] {
        let all = root.get_mut(kind).into_iter().flat_map(Node::entries_mut);
        for (_, one) in all {
            one.get_mut("file").into_iter().for_each(moved);
        }
    }
}

/// A path from a folder. What is absolute, of a home or no path at all stays as it is.
pub(crate) fn joined(folder: &Path, path: &str) -> PathBuf {
    if path.starts_with(['/', '~']) || path.contains("://") || path.starts_with("git@") {
        return path.into();
    }
    let mut whole = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(whole.components().next_back(), Some(Component::Normal(_))) =>
            {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole
}

/// A path as Compose tells it from a name: it begins with `.` or `/`.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    match text.chars().next() {
        Some('.' | '/' | '~') => text,
        _ if text.contains("://") || text.starts_with("git@") => text,
        _ => format!("./{text}"),
    }
}
