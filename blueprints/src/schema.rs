//! The JSON Schema of the language, from the types that read it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::document::OVERLAYS;
use crate::{
    DockerSettings, Drill, DrillName, Gateway, KubernetesSettings, ProcessSettings, Project,
    ProviderKind, Resource, ResourceName, Rollout, Route, Service, ServiceName, TerraformSettings,
};

/// Where the schema is published.
const ID: &str = "https://platform.dev/schema/platform.toml.json";

/// The sections, as the schema has them. The environments are added: they are
/// the settings of a provider and an overlay of the other sections.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "the fields describe the sections in the schema")]
struct Sections {
    /// The project.
    project: Project,
    /// The programs it runs, by name.
    #[schemars(default)]
    services: BTreeMap<ServiceName, Service>,
    /// The stores and brokers they need, by name.
    #[schemars(default)]
    resources: BTreeMap<ResourceName, Resource>,
    /// What holds for every route.
    #[schemars(default)]
    gateway: Gateway,
    /// Which requests come in, and where they go.
    #[schemars(default)]
    routes: Vec<Route>,
    /// How services move from one release to the next.
    #[schemars(default)]
    rollout: Rollout,
    /// Experiments that measure recovery, by name.
    #[schemars(default)]
    drills: BTreeMap<DrillName, Drill>,
}

/// The JSON Schema of the language: draft 2020-12, for editors and other tools.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .for_deserialize()
        .into_generator();
    let settings = [
        generator.root_schema_for::<ProcessSettings>(),
        generator.root_schema_for::<DockerSettings>(),
        generator.root_schema_for::<KubernetesSettings>(),
        generator.root_schema_for::<TerraformSettings>(),
    ];
    let providers = SchemaGenerator::default().into_root_schema_for::<ProviderKind>();
    let mut root = Value::from(generator.into_root_schema_for::<Sections>());

    // What an environment lays over a section may be any part of it.
    let mut definitions = take_map(&mut root, "$defs");
    for settings in &settings {
        definitions.extend(
            settings
                .get("$defs")
                .and_then(Value::as_object)
                .cloned()
                .into_iter()
                .flatten(),
        );
    }
    let mut environment = Map::new();
    let sections = take_map(&mut root, "properties");
    let mut overlaid = BTreeSet::new();
    for name in OVERLAYS {
        let mut section = sections.get(name).cloned().unwrap_or_default();
        drop_default(&mut section);
        to_overlay(&mut section, &mut overlaid);
        environment.insert(name.to_owned(), section);
    }
    add_overlays(&mut definitions, overlaid);
    for settings in &settings {
        let keys = settings
            .get("properties")
            .and_then(Value::as_object)
            .cloned();
        environment.extend(keys.into_iter().flatten());
    }
    environment.insert(
        "provider".to_owned(),
        provider_names(&Value::from(providers)),
    );
    environment.insert(
        "protected".to_owned(),
        json!({
            "type": "boolean",
            "default": false,
            "description": "Whether changing it always asks first.",
        }),
    );
    definitions.insert(
        "Environment".to_owned(),
        json!({
            "type": "object",
            "description": "A target: its provider, the provider's settings, and what differs there.",
            "properties": environment,
            "required": ["provider"],
            "additionalProperties": false,
        }),
    );
    let mut properties = sections;
    properties.insert(
        "environments".to_owned(),
        json!({
            "type": "object",
            "description": "Targets, by name; one on local processes if there are none.",
            "additionalProperties": { "$ref": "#/$defs/Environment" },
        }),
    );
    if let Some(root) = root.as_object_mut() {
        root.insert("$id".to_owned(), ID.into());
        root.insert("title".to_owned(), "Blueprint".into());
        root.insert(
            "description".to_owned(),
            "platform.toml: what a project runs, where, and how it changes.".into(),
        );
        root.insert("properties".to_owned(), properties.into());
        root.insert("$defs".to_owned(), definitions.into());
    }
    root
}

fn take_map(value: &mut Value, key: &str) -> Map<String, Value> {
    match value.get_mut(key).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn drop_default(value: &mut Value) {
    if let Some(table) = value.as_object_mut() {
        table.remove("default");
    }
}

fn provider_names(schema: &Value) -> Value {
    json!({
        "description": "The adapter for the target.",
        "oneOf": schema.get("oneOf").cloned().unwrap_or_default(),
    })
}

const DEFINITIONS: &str = "#/$defs/";

/// Points references at the overlay of what they point at, noting which.
fn to_overlay(value: &mut Value, noted: &mut BTreeSet<String>) {
    match value {
        Value::Object(table) => {
            if let Some(name) = table
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|name| name.strip_prefix(DEFINITIONS))
            {
                noted.insert(name.to_owned());
                let overlay = format!("{DEFINITIONS}{name}Overlay");
                table.insert("$ref".to_owned(), overlay.into());
            }
            for value in table.values_mut() {
                to_overlay(value, noted);
            }
        }
        Value::Array(list) => {
            for value in list {
                to_overlay(value, noted);
            }
        }
        _ => {}
    }
}

/// Adds the overlay of each definition noted, in which nothing is required.
fn add_overlays(definitions: &mut Map<String, Value>, mut noted: BTreeSet<String>) {
    while let Some(name) = noted.pop_first() {
        let overlay = format!("{name}Overlay");
        if definitions.contains_key(&overlay) {
            continue;
        }
        let mut definition = definitions.get(&name).cloned().unwrap_or_default();
        if let Some(table) = definition.as_object_mut() {
            table.remove("required");
        }
        drop_default(&mut definition);
        let mut below = BTreeSet::new();
        to_overlay(&mut definition, &mut below);
        definitions.insert(overlay, definition);
        noted.extend(below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::known_keys;
    use serde::de::DeserializeOwned;

    /// The keys that the reader takes are those that the schema shows.
    fn check<T: JsonSchema + DeserializeOwned>() {
        let schema = SchemaSettings::draft2020_12()
            .for_deserialize()
            .into_generator()
            .into_root_schema_for::<T>();
        let shown: BTreeSet<String> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|keys| keys.keys().cloned())
            .collect();
        let taken: BTreeSet<String> = known_keys::<T>()
            .iter()
            .map(|key| (*key).to_owned())
            .collect();
        assert_eq!(shown, taken, "{}", T::schema_name());
        assert_eq!(
            schema.get("additionalProperties"),
            Some(&Value::Bool(false)),
            "{}",
            T::schema_name()
        );
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_takes() {
        check::<Project>();
        check::<Service>();
        check::<crate::Build>();
        check::<crate::Health>();
        check::<crate::Limits>();
        check::<crate::Stop>();
        check::<crate::Restart>();
        check::<crate::Logs>();
        check::<crate::Volume>();
        check::<crate::Traffic>();
        check::<Resource>();
        check::<crate::Backup>();
        check::<crate::Objectives>();
        check::<crate::External>();
        check::<Gateway>();
        check::<crate::Tls>();
        check::<crate::Certificate>();
        check::<crate::Jwt>();
        check::<crate::ApiKeys>();
        check::<crate::GatewayLimits>();
        check::<crate::Outliers>();
        check::<crate::Breaker>();
        check::<Route>();
        check::<crate::HeaderChanges>();
        check::<crate::Auth>();
        check::<crate::RateLimit>();
        check::<crate::Cors>();
        check::<Rollout>();
        check::<crate::OptIn>();
        check::<crate::Gate>();
        check::<crate::Analysis>();
        check::<crate::Metric>();
        check::<Drill>();
        check::<crate::Steady>();
        check::<ProcessSettings>();
        check::<DockerSettings>();
        check::<KubernetesSettings>();
        check::<TerraformSettings>();
        check::<crate::TerraformBackend>();
    }

    #[test]
    fn the_schema_has_the_sections() {
        let schema = schema();
        let sections: BTreeSet<&str> = schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(|keys| keys.keys().map(String::as_str))
            .collect();
        assert_eq!(sections, BTreeSet::from(crate::document::SECTIONS));
    }

    #[test]
    fn every_reference_of_the_schema_leads_somewhere() {
        fn walk(value: &Value, root: &Value) {
            if let Some(name) = value.get("$ref").and_then(Value::as_str) {
                assert!(root.pointer(&name[1..]).is_some(), "{name}");
            }
            match value {
                Value::Object(table) => table.values().for_each(|value| walk(value, root)),
                Value::Array(list) => list.iter().for_each(|value| walk(value, root)),
                _ => {}
            }
        }
        let schema = schema();
        walk(&schema, &schema);
    }
}
