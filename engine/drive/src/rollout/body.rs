//! The body of an answer, of which no more is read than is of use.

use reqwest::Response;

/// Reads a body, but not more than so many bytes of it; returns whether that was all of it.
///
/// # Errors
///
/// If it breaks off or does not come in time; what came before is in `into`.
pub(super) async fn read(
    answer: &mut Response,
    at_most: usize,
    into: &mut Vec<u8>,
) -> reqwest::Result<bool> {
    while let Some(piece) = answer.chunk().await? {
        let room = at_most.saturating_sub(into.len());
        into.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}
