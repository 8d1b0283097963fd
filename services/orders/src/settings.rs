//! What this service can be told through its environment.

use std::time::Duration;

use platform_kit::Variables;

use crate::store::DatabaseUrl;

/// The settings of the orders service.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where orders are stored (`ORDERS_DB_URL`).
    pub(crate) database: DatabaseUrl,
    /// Most connections to it (`ORDERS_DB_CONNECTIONS`, default 4).
    pub(crate) connections: u32,
    /// How long answers are remembered for their idempotency keys (`IDEMPOTENCY_KEEP`, default `168h`).
    pub(crate) idempotency_keep: Duration,
}

impl Settings {
    pub(crate) fn read(variables: &mut Variables) -> Option<Self> {
        let database = variables.required(
            "ORDERS_DB_URL",
            "where orders are stored: `sqlite:/path/orders.db` or `postgres://…`",
        );
        let connections = variables.or("ORDERS_DB_CONNECTIONS", 4);
        if connections == 0 {
            variables.problem("ORDERS_DB_CONNECTIONS", "must be at least 1");
        }
        let idempotency_keep = variables.or("IDEMPOTENCY_KEEP", Duration::from_secs(7 * 24 * 3600));
        Some(Self {
            database: database?,
            connections,
            idempotency_keep,
        })
    }
}
