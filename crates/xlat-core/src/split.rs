//! Cuts a translated packet that is too long for its way into pieces.

use crate::frame::Frame;

/// The pieces of one packet, handed out one by one.
#[derive(Debug)]
pub struct Split {}

impl Split {
    /// The next piece, ready to send. Send it before asking for the one after it: the next piece's
    /// header goes over the end of this one.
    pub fn next<'f>(&mut self, frame: &'f mut Frame<'_>) -> Option<Frame<'f>> {
        let _ = frame;
        None
    }
}
