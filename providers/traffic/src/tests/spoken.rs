//! How instances are asked: over TLS, in HTTP/2.

use super::*;

/// How a service is asked over TLS whose file of authorities was read.
fn one_sided(service: serde_json::Value) -> Option<api::UpstreamTls> {
    let service: blueprint::Service = serde_json::from_value(service).unwrap();
    let spec = platform_decide::group::ServiceSpec {
        service: std::sync::Arc::new(service),
        artifact: platform_decide::group::Artifact {
            key: digest("orders"),
            place: platform_decide::group::Place::Installed,
        },
        needs: Vec::new(),
        secrets: BTreeMap::new(),
        authority: Some("what it holds".to_owned()),
    };
    certificates::one_sided(Path::new("/shared"), &"orders".parse().unwrap(), &spec)
}

#[test]
fn who_shows_a_certificate_of_its_own_is_believed_by_name_and_authority() {
    let check = |service: serde_json::Value, name: &str, has_authority: bool| {
        let asked = one_sided(service).unwrap();
        assert_eq!(asked.name.as_deref(), Some(name));
        assert_eq!(asked.ca.is_some(), has_authority);
    };
    check(serde_json::json!({ "protocol": "h2" }), "orders", false);
    check(
        serde_json::json!({ "protocol": "https", "tls": { "ca": "ca.pem", "name": "own.example" } }),
        "own.example",
        true,
    );
    for protocol in ["http", "h2c", "mtls", "mtls-h2"] {
        assert_eq!(one_sided(serde_json::json!({ "protocol": protocol })), None);
    }
}

#[test]
fn groups_are_asked_as_each_speaks() {
    let (old, new): (GroupId, GroupId) =
        ("orders@r1".parse().unwrap(), "orders@r2".parse().unwrap());
    let mutual = Mutual {
        groups: BTreeSet::from([new.clone()]),
        authority: "/own/authority".into(),
        certificate: "/own/certificate".into(),
        key: "/own/key".into(),
    };
    let third: GroupId = "orders@r3".parse().unwrap();
    let shown = one_sided(serde_json::json!({ "protocol": "https", "tls": { "ca": "ca.pem" } }));
    let one_sided = BTreeMap::from([(third.clone(), shown.unwrap())]);
    let shop = Shop {
        http2: BTreeSet::from([old.clone()]),
        one_sided,
        ..Shop::of([old, new, third])
    };
    let config = join(&Parts {
        mutual: Some(&mutual),
        ..shop.parts(None, &[])
    });
    let versions = &config.services["orders"].versions;
    assert_eq!(
        (&versions["r1"].tls, versions["r1"].http2),
        (&None, Some(true))
    );
    assert_eq!(versions["r2"].http2, None);
    assert_eq!(
        text(&versions["r3"].tls),
        r#"{"ca":"/shared/authorities.SHORT","name":"orders","certificate":null,"key":null}"#
            .replace("SHORT", digest("what it holds").short())
    );
    assert_eq!(
        text(&versions["r2"].tls),
        r#"{"ca":"/own/authority","name":"orders","certificate":"/own/certificate","key":"/own/key"}"#
    );
}
