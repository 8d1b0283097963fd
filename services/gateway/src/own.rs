//! What the gateway answers itself.

/// Why the gateway answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) status: u16,
    /// Stable, for logs and clients.
    pub(crate) code: &'static str,
    pub(crate) detail: &'static str,
    /// Seconds for `Retry-After`.
    pub(crate) retry_after: Option<u64>,
    /// Further headers.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Own {
    pub(crate) fn new(status: u16, code: &'static str, detail: &'static str) -> Self {
        Self {
            status,
            code,
            detail,
            retry_after: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
