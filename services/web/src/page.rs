//! The page, with its first orders in it.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use platform_kit::client::{Call, Client, ClientPolicy};

use crate::assets::{Assets, digest};
use crate::catalogue::{CURRENCY, GOODS, Good};

const TEMPLATE: &str = include_str!("../assets/shop.html");

/// Everything from here, nothing inline, nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Orders on the first page; the script asks for as many.
const FIRST: &str = "/api/v1/orders?limit=5";

/// Makes the page.
#[derive(Debug)]
pub(crate) struct Page {
    /// The page but for the orders, split where they go.
    halves: (String, String),
    orders: Option<Client>,
}

impl Page {
    /// - `release`: which release of this service the page comes from
    /// - `orders`: the client of the orders service, if this service was given one
    pub(crate) fn new(assets: &Assets, release: &str, orders: Option<Client>) -> Self {
        let goods = GOODS
            .iter()
            .enumerate()
            .fold(String::new(), |mut text, (index, good)| {
                draw(&mut text, index + 1, good);
                text
            });
        let page = TEMPLATE
            .replace("{{icon}}", &assets.address("icon.svg"))
            .replace("{{style}}", &assets.address("shop.css"))
            .replace("{{script}}", &assets.address("shop.js"))
            .replace("{{release}}", &escaped(release))
            .replace("{{goods}}", &goods);
        let (before, after) = page.split_once("{{orders}}").unwrap_or((&page, ""));
        Self {
            halves: (before.to_owned(), after.to_owned()),
            orders,
        }
    }

    /// How patient the page is with the orders service: people wait for the page, and the script can ask again.
    pub(crate) fn patience() -> ClientPolicy {
        ClientPolicy {
            timeout: Duration::from_millis(400),
            attempt_timeout: Duration::from_millis(250),
            attempts: 2,
            first_pause: Duration::from_millis(10),
            ..ClientPolicy::default()
        }
    }

    async fn render(&self) -> String {
        let orders = match &self.orders {
            Some(client) => first_orders(client).await,
            None => None,
        };
        let (before, after) = &self.halves;
        let orders = orders.as_deref().unwrap_or("null");
        format!("{before}{orders}{after}")
    }
}

/// Asks for the newest orders; without them the page is complete but for a list that the script fills.
async fn first_orders(client: &Client) -> Option<String> {
    let reply = match client.send(Call::get(FIRST)).await {
        Ok(reply) if reply.status == StatusCode::OK => reply,
        Ok(reply) => {
            tracing::warn!(status = reply.status.as_u16(), "page without orders");
            return None;
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "page without orders"
            );
            return None;
        }
    };
    let orders: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
    // In JSON these stand only inside texts, so the page cannot be left through them.
    let text = orders.to_string();
    Some(
        text.replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026"),
    )
}

/// Serves the page, to be asked for each time and sent only when it changed.
pub(crate) async fn page(State(page): State<&'static Page>, headers: HeaderMap) -> Response {
    let body = page.render().await;
    // Weak, since a compressed answer has other bytes.
    let tag = format!("W/\"{}\"", digest(body.as_bytes()));
    let known = has_tag(&headers, &tag);
    let marks = [
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            ETAG,
            HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"0\"")),
        ),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, marks).into_response();
    }
    let kind = [(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    )];
    (marks, kind, body).into_response()
}

/// Returns whether the caller has what this weak tag names.
pub(crate) fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == opaque)
}

fn draw(page: &mut String, number: usize, good: &Good) {
    let Good {
        sku,
        name,
        about,
        price,
        art,
    } = good;
    let (whole, cents) = (price / 100, price % 100);
    let (name, about) = (escaped(name), escaped(about));
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        r#"
        <li class="good">
          <div class="art art-{number}"><svg viewBox="0 0 96 96" aria-hidden="true">{art}</svg></div>
          <div class="good-text"><h3>{name}</h3><p>{about}</p></div>
          <div class="good-foot"><span class="price">€{whole}.{cents:02}</span><button class="secondary" type="button" data-sku="{sku}" data-name="{name}" data-price="{price}" data-currency="{CURRENCY}" aria-label="Add {name} to the basket">Add</button></div>
        </li>"#
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_leaves_no_hole() {
        let page = Page::new(&Assets::load(), "web@r1", None).render().await;
        assert!(!page.contains("{{"));
        assert!(page.contains(">null</script>"));
        assert_eq!(page.matches("data-sku").count(), GOODS.len());
    }

    #[test]
    fn tags_are_compared_weakly() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"x\", \"a\""));
        assert!(has_tag(&headers, "W/\"a\""));
        assert!(!has_tag(&headers, "W/\"b\""));
    }
}
