//! An order, and what makes one valid.

use chrono::{DateTime, Utc};
use platform_kit::problem::FieldError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::currency;

/// Most lines an order can have.
const MAX_ITEMS: usize = 100;
/// Most pieces of one thing.
const MAX_QUANTITY: i64 = 10_000;
/// The largest amount that every JSON reader represents exactly.
const MAX_AMOUNT: i64 = 9_007_199_254_740_991;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Accepted and not cancelled
    Placed,
    /// Taken back
    Cancelled,
}

impl Status {
    /// Returns the word it is stored and shown as.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the stored word.
    pub(crate) fn of(text: &str) -> Option<Self> {
        [Self::Placed, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Money {
    /// Amount in the currency's smallest unit, such as cents
    #[schema(example = 2500, minimum = 0)]
    pub(crate) amount: i64,
    /// ISO 4217 code
    #[schema(example = "EUR")]
    pub(crate) currency: String,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// What is ordered
    #[schema(example = "mug-blue", min_length = 1, max_length = 64)]
    pub(crate) sku: String,
    /// Its name when it was ordered
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "Blue mug", max_length = 200)]
    pub(crate) name: String,
    /// How many
    #[schema(example = 2, minimum = 1, maximum = 10000)]
    pub(crate) quantity: i64,
    /// Price of one, in the currency's smallest unit
    #[schema(example = 1250, minimum = 0)]
    pub(crate) unit_price: i64,
}

/// An order to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrder {
    /// Who orders
    #[schema(example = "Ada", min_length = 1, max_length = 200)]
    pub(crate) customer: String,
    /// ISO 4217 code of every price
    #[schema(example = "EUR")]
    pub(crate) currency: String,
    /// What is ordered
    #[schema(min_items = 1, max_items = 100)]
    pub(crate) items: Vec<Item>,
    /// A word to the shop
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 1000)]
    pub(crate) note: String,
}

/// An order as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Order {
    /// Identifier
    pub(crate) id: Uuid,
    /// Where it stands
    pub(crate) status: Status,
    /// Who ordered
    pub(crate) customer: String,
    /// What was ordered
    pub(crate) items: Vec<Item>,
    /// What it comes to
    pub(crate) total: Money,
    /// A word to the shop
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
    /// When it was placed
    pub(crate) created_at: DateTime<Utc>,
    /// When it last changed
    pub(crate) updated_at: DateTime<Utc>,
    /// Counts its changes from 1; the entity tag is made from it
    #[schema(example = 1, minimum = 1)]
    pub(crate) version: i64,
}

impl NewOrder {
    /// Checks everything and returns the total.
    ///
    /// # Errors
    ///
    /// All that is wrong, with where.
    pub(crate) fn check(&self) -> Result<i64, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong = |pointer: String, detail: String| {
            errors.push(FieldError { pointer, detail });
        };
        if let Err(detail) = text(&self.customer, 1, 200) {
            wrong("/customer".to_owned(), detail);
        }
        if let Err(detail) = text(&self.note, 0, 1000) {
            wrong("/note".to_owned(), detail);
        }
        if !currency::is_known(&self.currency) {
            wrong(
                "/currency".to_owned(),
                format!(
                    "`{}` is not an ISO 4217 currency code",
                    self.currency.escape_debug()
                ),
            );
        }
        if self.items.is_empty() || self.items.len() > MAX_ITEMS {
            wrong(
                "/items".to_owned(),
                format!("must be 1 to {MAX_ITEMS} items"),
            );
        }
        let mut total = Some(0_i64);
        for (index, item) in self.items.iter().enumerate() {
            if let Err(detail) = text(&item.sku, 1, 64) {
                wrong(format!("/items/{index}/sku"), detail);
            }
            if let Err(detail) = text(&item.name, 0, 200) {
                wrong(format!("/items/{index}/name"), detail);
            }
            if !(1..=MAX_QUANTITY).contains(&item.quantity) {
                wrong(
                    format!("/items/{index}/quantity"),
                    format!("must be 1 to {MAX_QUANTITY}"),
                );
            }
            if !(0..=MAX_AMOUNT).contains(&item.unit_price) {
                wrong(
                    format!("/items/{index}/unit_price"),
                    "must be an amount in minor units, not negative".to_owned(),
                );
            }
            total = item
                .quantity
                .checked_mul(item.unit_price)
                .and_then(|line| total?.checked_add(line));
        }
        let total = total.filter(|total| *total <= MAX_AMOUNT);
        if total.is_none() {
            wrong(
                "/items".to_owned(),
                "cost more than can be counted".to_owned(),
            );
        }
        match total {
            Some(total) if errors.is_empty() => Ok(total),
            _ => Err(errors),
        }
    }

    /// Makes the order; `total` comes from [`NewOrder::check`].
    pub(crate) fn placed(self, total: i64, id: Uuid, now: DateTime<Utc>) -> Order {
        Order {
            id,
            status: Status::Placed,
            customer: self.customer,
            items: self.items,
            total: Money {
                amount: total,
                currency: self.currency,
            },
            note: self.note,
            created_at: now,
            updated_at: now,
            version: 1,
        }
    }
}

fn text(text: &str, least: usize, most: usize) -> Result<(), String> {
    let length = text.chars().count();
    if length < least || most < length {
        return Err(format!("must be {least} to {most} characters"));
    }
    if least > 0 && text.trim().is_empty() {
        return Err("must not be blank".to_owned());
    }
    // PostgreSQL cannot store NUL, and nobody can read the others.
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err("must not contain control characters".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(change: impl FnOnce(&mut NewOrder)) -> Result<i64, Vec<String>> {
        let mut order = NewOrder {
            customer: "Ada".into(),
            currency: "EUR".into(),
            items: vec![Item {
                sku: "mug".into(),
                name: String::new(),
                quantity: 2,
                unit_price: 1250,
            }],
            note: String::new(),
        };
        change(&mut order);
        order
            .check()
            .map_err(|errors| errors.into_iter().map(|error| error.pointer).collect())
    }

    #[test]
    fn a_good_order_has_a_total() {
        assert_eq!(order(|_| {}), Ok(2500));
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let errors = order(|order| {
            order.customer = " ".into();
            order.currency = "eur".into();
            order.note = "\0".into();
            order.items[0].quantity = 0;
            order.items[0].unit_price = -1;
        });
        let expected = [
            "/customer",
            "/note",
            "/currency",
            "/items/0/quantity",
            "/items/0/unit_price",
        ];
        assert_eq!(errors.unwrap_err(), expected);
    }

    #[test]
    fn a_total_cannot_overflow() {
        let errors = order(|order| {
            order.items[0].unit_price = MAX_AMOUNT;
            order.items.push(order.items[0].clone());
        });
        assert_eq!(errors.unwrap_err(), ["/items"]);
    }
}
