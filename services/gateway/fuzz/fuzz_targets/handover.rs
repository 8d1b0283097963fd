//! Reads any bytes as what a predecessor hands over: a document is read whole and as it was written, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/handover/document.rs"]
mod document;

use document::{Document, read, write};

/// With its length before it.
fn framed(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text].concat()
}

// The first byte is how much to leave out at the end, the rest is the text.
fuzz_target!(|data: &[u8]| {
    let [left_out, text @ ..] = data else {
        return;
    };
    // Whatever says its own length may say any.
    let _ = read(&mut &text[..]);
    let framed = framed(text);
    let bytes = [&framed[..], b"behind"].concat();
    let mut rest = &bytes[..];
    let Ok(document) = read(&mut rest) else {
        // What is no JSON of ours is none of it, however it goes on.
        assert!(serde_json::from_slice::<Document>(text).is_err());
        return;
    };
    // Where it ends descriptors begin.
    assert_eq!(rest, b"behind");
    let mut written = Vec::new();
    write(&document, &mut written).expect("what was read can be written");
    let mut rest = &written[..];
    let again = read(&mut rest).expect("what was written can be read");
    assert!(rest.is_empty());
    assert_eq!(document, again);
    // A predecessor that dies half way has handed over nothing.
    let less = written.len().saturating_sub(usize::from(*left_out) + 1);
    assert!(read(&mut &written[..less]).is_err());
});
