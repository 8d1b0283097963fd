use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text)
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn project() -> (tempfile::TempDir, SecretFile, Keyring) {
    let folder = tempfile::tempdir().unwrap();
    let file = SecretFile::new(folder.path(), &EnvironmentName::new("local").unwrap());
    (folder, file, Keyring::generate())
}

#[test]
fn a_secret_reads_back_and_its_version_grows_for_ever() {
    let (_folder, file, keyring) = project();
    let key = name("stripe-key");
    assert_eq!(file.set(&keyring, &key, &value("one"), now()).unwrap(), 1);
    assert_eq!(
        file.set(&keyring, &key, &value("two\nlines"), now())
            .unwrap(),
        2
    );
    assert_eq!(file.reveal(&keyring, &key).unwrap(), value("two\nlines"));
    file.remove(&key).unwrap();
    assert_eq!(
        file.reveal(&keyring, &key).unwrap_err().code(),
        "secrets::not-set"
    );
    assert_eq!(file.remove(&key).unwrap_err().code(), "secrets::not-set");
    assert_eq!(file.set(&keyring, &key, &value("one"), now()).unwrap(), 3);
    assert_eq!(file.rotate(&keyring, &key, None, now()).unwrap(), 4);
    assert_eq!(file.reveal(&keyring, &key).unwrap().reveal().len(), 43);
    assert_eq!(file.versions().unwrap(), BTreeMap::from([(key, 4)]));
}

#[test]
fn only_recipients_read_and_write() {
    let (_folder, file, keyring) = project();
    let other = Keyring::generate();
    let key = name("stripe-key");
    file.set(&keyring, &key, &value("one"), now()).unwrap();
    let error = file.set(&other, &key, &value("two"), now()).unwrap_err();
    assert_eq!(error.code(), "secrets::not-a-recipient");
    assert_eq!(
        file.reveal(&other, &key).unwrap_err().code(),
        "secrets::not-decrypted"
    );
    file.change_recipients(&keyring, &[other.recipient()], &[])
        .unwrap();
    assert_eq!(file.reveal(&other, &key).unwrap(), value("one"));
    file.change_recipients(&other, &[], &[keyring.recipient()])
        .unwrap();
    assert_eq!(
        file.reveal(&keyring, &key).unwrap_err().code(),
        "secrets::not-decrypted"
    );
    let error = file
        .change_recipients(&other, &[], &[other.recipient()])
        .unwrap_err();
    assert_eq!(error.code(), "secrets::last-recipient");
}

#[test]
fn a_value_moved_to_another_name_is_noticed() {
    let (_folder, file, keyring) = project();
    file.set(&keyring, &name("a"), &value("one"), now())
        .unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    fs::write(file.path(), text.replace("secrets.a", "secrets.b")).unwrap();
    assert_eq!(
        file.reveal(&keyring, &name("b")).unwrap_err().code(),
        "secrets::misplaced"
    );
}

#[test]
fn the_environment_goes_first_and_needs_no_key() {
    let (_folder, file, keyring) = project();
    file.set(&keyring, &name("kept"), &value("one"), now())
        .unwrap();
    let file = file.with_overrides(Overrides::new(BTreeMap::from([
        (name("kept"), value("over")),
        (name("handed"), value("ci")),
    ])));
    let names = [name("kept"), name("handed")];
    let values = file
        .values(&names, || unreachable!("no key is needed"))
        .unwrap();
    assert_eq!(values[&names[0]], value("over"));
    assert_eq!(values[&names[1]], value("ci"));
    let versions = file.versions().unwrap();
    assert_eq!((versions[&names[0]], versions[&names[1]]), (1, 0));
}

#[test]
fn changes_at_the_same_time_all_count() {
    let (_folder, file, keyring) = project();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (file, keyring) = (&file, &keyring);
            scope.spawn(move || {
                let key = name(&format!("key-{worker}"));
                file.set(keyring, &key, &value("x"), now()).unwrap();
                file.set(keyring, &name("shared"), &value("x"), now())
                    .unwrap();
            });
        }
    });
    let versions = file.versions().unwrap();
    assert_eq!(versions.len(), 9);
    assert_eq!(versions[&name("shared")], 8);
}

/// Everything an error could print.
fn printed(error: &SecretsError) -> String {
    let mut text = format!("{error} {error:?} {:?} ", error.help());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(text, "{cause} {cause:?} ");
        source = cause.source();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_error_prints_a_secret(
        secret in "[A-Za-z0-9]{12,40}",
        at in 0_usize..1000,
        mangle in 0_u8..6,
    ) {
        let (_folder, file, keyring) = project();
        let key = name("stripe-key");
        file.set(&keyring, &key, &value(&secret), now()).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        prop_assert!(!text.contains(&secret));
        let at = at % text.len();
        // Damage of all kinds, among it a value written into the file by hand.
        let damaged = match mangle {
            0 => format!("{}{secret}{}", &text[..at], &text[at..]),
            1 => text[..at].to_owned(),
            2 => text.replace("version = 1", &format!("version = \"{secret}\"")),
            3 => text.replace("value = '''", &format!("value = \"{secret}\"\nother = '''")),
            4 => text.replace("stripe-key]", &format!("{secret}]")),
            _ => text.replace("recipients = [", &format!("recipients = [\"{secret}\",")),
        };
        fs::write(file.path(), damaged).unwrap();
        let stranger = Keyring::generate();
        let bad = value(&format!("{secret}\0"));
        let outcomes = [
            file.reveal(&keyring, &key).map(drop),
            file.reveal(&stranger, &key).map(drop),
            file.list().map(drop),
            file.set(&stranger, &key, &value(&secret), now()).map(drop),
            file.set(&keyring, &key, &bad, now()).map(drop),
            file.rotate(&keyring, &name("none"), Some(&value(&secret)), now()).map(drop),
            secret.parse::<Recipient>().map(drop),
        ];
        for error in outcomes.into_iter().filter_map(Result::err) {
            // The name of a secret may be printed, and a mangled name is one.
            if mangle != 4 {
                prop_assert!(!printed(&error).contains(&secret), "{}", printed(&error));
            }
        }
    }
}
