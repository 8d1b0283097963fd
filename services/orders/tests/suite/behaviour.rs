//! What callers can rely on, whichever database there is.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::database::Database;
use crate::on_both_databases;
use crate::program::{Program, id, json, order, problem};

on_both_databases! {
    an_order_is_placed_read_and_listed,
    a_bad_order_is_explained_and_not_stored,
    pages_stay_in_place_while_orders_arrive,
    lists_can_be_narrowed,
    the_same_key_gives_the_same_answer,
    a_key_belongs_to_one_request,
    the_same_key_at_once_is_one_order,
    cancelling_needs_the_version_seen,
    cancelling_at_once_succeeds_once,
    text_survives_as_it_was,
}

async fn an_order_is_placed_read_and_listed(database: Database) {
    let program = Program::start(&database.url).await;
    let response = program.place(&order("Ada"), None).await;
    assert_eq!(response.headers()["etag"], "\"1\"");
    let place = response.headers()["location"]
        .to_str()
        .expect("no failure")
        .to_owned();
    let placed = json(response, 201).await;
    assert_eq!(placed["status"], "placed");
    assert_eq!(
        placed["total"],
        json!({ "amount": 2500, "currency": "EUR" })
    );
    let response = program.get(&place).await;
    assert_eq!(response.headers()["etag"], "\"1\"");
    assert_eq!(json(response, 200).await, placed);
    assert_eq!(program.all().await, [placed]);
    let known = program.client.get(program.url(&place));
    let known = known
        .header("if-none-match", "\"1\"")
        .send()
        .await
        .expect("no failure");
    assert_eq!(known.status(), 304);
    let nowhere = format!("/api/v1/orders/{}", uuid::Uuid::new_v4());
    assert_eq!(
        problem(program.get(&nowhere).await, 404).await["code"],
        "orders::not-found"
    );
    problem(program.get("/api/v1/orders/7").await, 400).await;
    program.stop().await;
}

async fn a_bad_order_is_explained_and_not_stored(database: Database) {
    let program = Program::start(&database.url).await;
    let mut bad = order(" ");
    bad["currency"] = json!("EUX");
    bad["items"][0]["quantity"] = json!(0);
    let seen = problem(program.place(&bad, Some("k")).await, 422).await;
    let pointers: Vec<&str> = seen["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| error["pointer"].as_str().expect("a text"))
        .collect();
    assert_eq!(pointers, ["/customer", "/currency", "/items/0/quantity"]);
    let mut unknown = order("Ada");
    unknown["discount"] = json!(5);
    problem(program.place(&unknown, None).await, 422).await;
    assert_eq!(program.all().await, [] as [Value; 0]);
    // A refused request does not use its key up.
    json(program.place(&order("Ada"), Some("k")).await, 201).await;
}

async fn pages_stay_in_place_while_orders_arrive(database: Database) {
    let program = Program::start(&database.url).await;
    let mut expected = Vec::new();
    for number in 0..7 {
        let placed = json(program.place(&order(&format!("{number}")), None).await, 201).await;
        expected.insert(0, id(&placed).to_owned());
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/orders?limit=3".to_owned();
    loop {
        let page = json(program.get(&path).await, 200).await;
        for order in page["items"].as_array().expect("a list") {
            seen.push(id(order).to_owned());
        }
        program.place(&order("late"), None).await;
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/orders?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, expected);
    for bad in [
        "limit=0",
        "limit=101",
        "limit=x",
        "cursor=x",
        "status=lost",
        "offset=1",
    ] {
        problem(program.get(&format!("/api/v1/orders?{bad}")).await, 400).await;
    }
}

async fn lists_can_be_narrowed(database: Database) {
    let program = Program::start(&database.url).await;
    let mut placed = Vec::new();
    for customer in ["a", "b", "c"] {
        placed.push(json(program.place(&order(customer), None).await, 201).await);
    }
    json(
        program.cancel(id(&placed[1]), &[("if-match", "*")]).await,
        200,
    )
    .await;
    let customers = async |status: &str| {
        let path = format!("/api/v1/orders?status={status}");
        let page = json(program.get(&path).await, 200).await;
        let orders = page["items"].as_array().expect("a list");
        orders
            .iter()
            .map(|order| order["customer"].to_string())
            .collect::<String>()
    };
    assert_eq!(customers("cancelled").await, "\"b\"");
    assert_eq!(customers("placed").await, "\"c\"\"a\"");
}

async fn the_same_key_gives_the_same_answer(database: Database) {
    let program = Program::start(&database.url).await;
    let first = program.place(&order("Ada"), Some("key-1")).await;
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let first = json(first, 201).await;
    json(
        program.cancel(id(&first), &[("if-match", "\"1\"")]).await,
        200,
    )
    .await;
    program.stop().await;
    // After a restart, and after the order went on, the answer is still the one that was given.
    let program = Program::start(&database.url).await;
    let again = program.place(&order("Ada"), Some("key-1")).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.headers()["etag"], "\"1\"");
    assert_eq!(
        again.headers()["location"],
        format!("/api/v1/orders/{}", id(&first))
    );
    assert_eq!(json(again, 201).await, first);
    assert_eq!(program.all().await.len(), 1);
}

async fn a_key_belongs_to_one_request(database: Database) {
    let program = Program::start(&database.url).await;
    let placed = json(program.place(&order("Ada"), Some("key-1")).await, 201).await;
    let seen = problem(program.place(&order("Bob"), Some("key-1")).await, 422).await;
    assert_eq!(seen["code"], "orders::idempotency-key-reused");
    for bad in ["", "a b", &"x".repeat(256)] {
        problem(program.place(&order("Ada"), Some(bad)).await, 400).await;
    }
    // Cancelling is another operation; there the key is free.
    let headers = [("if-match", "\"1\""), ("idempotency-key", "key-1")];
    json(program.cancel(id(&placed), &headers).await, 200).await;
    assert_eq!(program.all().await.len(), 1);
}

async fn the_same_key_at_once_is_one_order(database: Database) {
    let programs = [
        Program::start(&database.url).await,
        Program::start(&database.url).await,
    ];
    let ada = order("Ada");
    for round in 0..5 {
        let key = format!("key-{round}");
        let places = (0..20).map(|call| programs[call % 2].place(&ada, Some(&key)));
        let mut bodies = HashSet::new();
        let mut first = 0;
        for response in join_all(places).await {
            first += usize::from(!response.headers().contains_key("idempotency-replayed"));
            bodies.insert(json(response, 201).await.to_string());
        }
        assert_eq!((bodies.len(), first), (1, 1));
    }
    assert_eq!(programs[0].all().await.len(), 5);
}

async fn cancelling_needs_the_version_seen(database: Database) {
    let program = Program::start(&database.url).await;
    let placed = json(program.place(&order("Ada"), None).await, 201).await;
    let id = id(&placed);
    let code = async |headers: &[(&str, &str)], status| {
        problem(program.cancel(id, headers).await, status).await["code"].clone()
    };
    assert_eq!(code(&[], 428).await, "orders::version-required");
    assert_eq!(
        code(&[("if-match", "\"2\"")], 412).await,
        "orders::version-mismatch"
    );
    assert_eq!(
        code(&[("if-match", "W/\"1\"")], 412).await,
        "orders::version-mismatch"
    );
    let keyed = [("if-match", "\"1\""), ("idempotency-key", "c")];
    let response = program.cancel(id, &keyed).await;
    assert_eq!(response.headers()["etag"], "\"2\"");
    let cancelled = json(response, 200).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["version"], 2);
    assert!(cancelled["updated_at"].as_str() > placed["updated_at"].as_str());
    // The answer that was lost on its way can be had again.
    assert_eq!(json(program.cancel(id, &keyed).await, 200).await, cancelled);
    assert_eq!(
        code(&[("if-match", "\"1\"")], 412).await,
        "orders::version-mismatch"
    );
    assert_eq!(
        code(&[("if-match", "*")], 409).await,
        "orders::already-cancelled"
    );
    let nobody = uuid::Uuid::new_v4().to_string();
    problem(program.cancel(&nobody, &[("if-match", "*")]).await, 404).await;
}

async fn cancelling_at_once_succeeds_once(database: Database) {
    let programs = [
        Program::start(&database.url).await,
        Program::start(&database.url).await,
    ];
    let placed = json(programs[0].place(&order("Ada"), None).await, 201).await;
    let cancels =
        (0..16).map(|call| programs[call % 2].cancel(id(&placed), &[("if-match", "\"1\"")]));
    let mut won = 0;
    for response in join_all(cancels).await {
        match response.status().as_u16() {
            200 => won += 1,
            412 => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
}

async fn text_survives_as_it_was(database: Database) {
    let program = Program::start(&database.url).await;
    let mut odd = order("Zoë '; DROP TABLE orders; -- 🦀");
    odd["note"] = json!("two\nlines, \"quoted\" and \\ more");
    let placed = json(program.place(&odd, None).await, 201).await;
    assert_eq!(placed["customer"], odd["customer"]);
    let read = program
        .get(&format!("/api/v1/orders/{}", id(&placed)))
        .await;
    assert_eq!(json(read, 200).await, placed);
    problem(program.place(&order("a\0b"), None).await, 422).await;
}
