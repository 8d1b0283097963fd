//! A service on the chassis that is asked in HTTP/2 from one release on, and in HTTP/1.1 again, under load.

use super::shop::{ORDERS, deploy_orders};
use super::users::{Answers, Users};
use crate::sandbox::{Sandbox, free_port};

#[test]
fn a_service_goes_over_to_http2_and_back_and_loses_no_request() {
    let (sandbox, port) = (Sandbox::empty(), free_port());
    deploy_orders(&sandbox, port, "http", "");
    let users = Users::ask(port, ORDERS, 100);
    deploy_orders(&sandbox, port, "h2c", "");
    deploy_orders(&sandbox, port, "http", "");
    let answers = users.end();
    let harmed: Answers = answers
        .iter()
        .filter(|((_, status), _)| *status != 200)
        .map(|(key, count)| (key.clone(), *count))
        .collect();
    assert_eq!(harmed, Answers::new(), "{answers:?}");
    for release in ["r1", "r2", "r3"] {
        let served = answers.keys().any(|(version, _)| version == release);
        assert!(served, "{release}: {answers:?}");
    }
}
