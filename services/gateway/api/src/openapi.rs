//! The admin protocol, described for programs that read OpenAPI.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Value, json};

use crate::admin::{Applied, Refused, Status};
use crate::{Config, Tallies};

/// The OpenAPI 3.1 document of the admin protocol.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = SchemaGenerator::new(settings);
    let config = generator.subschema_for::<Config>();
    let tallies = generator.subschema_for::<Tallies>();
    let status = generator.subschema_for::<Status>();
    let applied = generator.subschema_for::<Applied>();
    let refused = generator.subschema_for::<Refused>();
    let refusal = |description: &str| says(description, &refused);
    let empty = json!({ "type": "object" });
    let paths = json!({
        "/config": {
            "get": operation("config", "Tells the configuration in force",
                &json!({ "200": says("it", &config) })),
            "put": with_body(&config, operation("putConfig", "Puts a configuration in force, whole or not at all",
                &json!({
                    "200": says("it is in force", &applied),
                    "400": refusal("the request could not be read"),
                    "409": refusal("a later one is in force, or the gateway is leaving"),
                    "422": refusal("it is wrong"),
                }))),
        },
        "/tallies": { "get": operation("tallies", "Tells all counts", &json!({ "200": says("they", &tallies) })) },
        "/status": { "get": operation("status", "Tells what the gateway is doing", &json!({ "200": says("it", &status) })) },
        "/metrics": { "get": operation("metrics", "Tells all counts to Prometheus", &json!({
            "200": { "description": "they", "content": { "text/plain": { "schema": { "type": "string" } } } } })) },
        "/cache": { "delete": operation("forget", "Forgets all kept answers", &json!({ "200": says("they are forgotten", &empty) })) },
        "/drain": { "post": operation("drain", "Finishes what is under way and ends", &json!({ "202": says("it begins", &empty) })) },
        "/openapi.json": { "get": operation("openapi", "Tells this document", &json!({ "200": says("it", &empty) })) },
    });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "The gateway's admin protocol", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn operation(id: &str, summary: &str, responses: &Value) -> Value {
    json!({ "operationId": id, "summary": summary, "responses": responses })
}

fn with_body(schema: &impl serde::Serialize, mut operation: Value) -> Value {
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    operation
}

fn says(description: &str, schema: &impl serde::Serialize) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let mut found = 0;
        for rest in text.split("\"$ref\":\"#").skip(1) {
            let pointer = rest.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            found += 1;
        }
        assert!(found > 10, "{found}");
    }
}
