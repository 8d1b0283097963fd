//! The place in a list that a page ended at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// Where a page ended: the order that closed it. Orders are listed newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// When that order was placed, in microseconds since 1970.
    pub(crate) created_at: i64,
    /// Its identifier, which decides between orders of the same time.
    pub(crate) id: Uuid,
}

/// First byte of every cursor, so that a later form can be told from this one.
const FORM: u8 = 1;

impl Cursor {
    /// Writes the cursor as text that says nothing to its reader.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = [FORM; 25];
        bytes[1..9].copy_from_slice(&self.created_at.to_be_bytes());
        bytes[9..].copy_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that [`Cursor::encode`] wrote.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes: [u8; 25] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (form, rest) = bytes.split_first()?;
        let (time, id) = rest.split_first_chunk()?;
        (*form == FORM).then_some(Self {
            created_at: i64::from_be_bytes(*time),
            id: Uuid::from_slice(id).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_round_trip() {
        let cursor = Cursor {
            created_at: 1_700_000_000_000_001,
            id: Uuid::now_v7(),
        };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "x", "////", &"A".repeat(34)] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }
}
