//! The data plane: routes, splits, balances and counts requests, on Pingora.
