//! Reads any text as a list of API keys.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../../providers/traffic/src/api_keys.rs"]
mod api_keys;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let keys = match api_keys::parse(&text) {
        Ok(keys) => keys,
        Err(number) => {
            // It is the first such line, and that line alone.
            let lines: Vec<&str> = text.lines().collect();
            let before = lines[..number - 1].join("\n");
            assert!(api_keys::parse(&before).is_ok());
            assert_eq!(api_keys::parse(lines[number - 1]), Err(1));
            return;
        }
    };
    let mut written = String::new();
    for key in &keys {
        assert!(key.sha256.len() == 64 && key.sha256 == key.sha256.to_ascii_lowercase());
        let roles = key.roles.iter().map(|role| format!("role={role}"));
        let mut words = vec![key.name.clone(), key.sha256.clone()];
        words.extend(key.scopes.iter().cloned().chain(roles));
        written.push_str(&words.join(" "));
        written.push('\n');
    }
    // What was read is what is written of it.
    assert_eq!(api_keys::parse(&written), Ok(keys));
});
