//! Files of the page, named by their content.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use platform_kit::Problem;
use sha2::{Digest, Sha256};

use crate::page::has_tag;

/// A file that is carried in the program.
#[derive(Debug)]
struct Asset {
    hash: String,
    kind: &'static str,
    text: &'static str,
}

/// The files of the page by stem and extension.
#[derive(Debug)]
pub(crate) struct Assets {
    files: BTreeMap<&'static str, Asset>,
}

impl Assets {
    pub(crate) fn load() -> Self {
        let file = |text: &'static str, kind| Asset {
            hash: digest(text.as_bytes()),
            kind,
            text,
        };
        let script = "text/javascript; charset=utf-8";
        let files = [
            (
                "shop.css",
                file(
                    include_str!("../assets/shop.css"),
                    "text/css; charset=utf-8",
                ),
            ),
            ("shop.js", file(include_str!("../assets/shop.js"), script)),
            (
                "icon.svg",
                file(include_str!("../assets/icon.svg"), "image/svg+xml"),
            ),
        ];
        Self {
            files: files.into_iter().collect(),
        }
    }

    /// Returns the address of a file, which changes when its content does.
    pub(crate) fn address(&self, name: &str) -> String {
        let hash = self.files.get(name).map_or("", |asset| &asset.hash);
        let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
        format!("/assets/{stem}.{hash}.{extension}")
    }

    /// Finds the file that `stem.hash.extension` names, and whether the hash is ours.
    fn find(&self, name: &str) -> Option<(&Asset, bool)> {
        let mut parts = name.split('.');
        let (stem, hash, extension) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let asset = self.files.get(format!("{stem}.{extension}").as_str())?;
        Some((asset, asset.hash == hash))
    }
}

/// Serves a file. One of another release, as a rollout mixes them, is answered with ours, not to be kept.
pub(crate) async fn asset(
    State(assets): State<&'static Assets>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (asset, exact) = assets
        .find(&name)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND).detail("there is no such file"))?;
    let keep = if exact {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let tag = format!("W/\"{}\"", asset.hash);
    let known = has_tag(&headers, &tag);
    let marks = [
        (CACHE_CONTROL, HeaderValue::from_static(keep)),
        (
            ETAG,
            HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"0\"")),
        ),
    ];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, marks).into_response());
    }
    let kind = [(CONTENT_TYPE, HeaderValue::from_static(asset.kind))];
    Ok((marks, kind, asset.text).into_response())
}

/// Returns the first half of the content's SHA-256 digest, in hexadecimal digits.
pub(crate) fn digest(content: &[u8]) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(content);
    digest
        .iter()
        .take(16)
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back_to_their_files() {
        let assets = Assets::load();
        for name in ["shop.css", "shop.js", "icon.svg"] {
            let address = assets.address(name);
            let (_, exact) = assets
                .find(address.strip_prefix("/assets/").unwrap())
                .unwrap();
            assert!(exact, "{address}");
        }
        assert!(!assets.find("shop.0.css").unwrap().1);
        assert!(assets.find("shop.css").is_none());
        assert!(assets.find("../x.0.css").is_none());
    }
}
