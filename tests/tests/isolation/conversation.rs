//! Many clients at once, each with a script, of whom now one and now another goes on.

use std::collections::VecDeque;
use std::time::Duration;

use crate::marker::{Marker, first_of_another};
use crate::random::Random;
use crate::servers::{Served, Site};
use crate::traffic::{Step, script};
use crate::wire::Wire;

/// Clients at a time.
const CLIENTS: usize = 24;
/// Turns of clients in an episode.
const TURNS: usize = 700;
/// The clients of one server.
pub(crate) struct Crowd<'a> {
    site: &'a Site,
    served: &'a Served,
    conversations: Vec<Conversation>,
    begun: u64,
}

struct Conversation {
    wire: Wire,
    marker: Marker,
    script: VecDeque<Step>,
    /// It has broken TLS itself.
    sabotaged: bool,
    /// The end of what has come, for markers that come in two pieces.
    tail: Vec<u8>,
    received: usize,
}

impl<'a> Crowd<'a> {
    pub(crate) fn new(site: &'a Site, served: &'a Served) -> Self {
        Self { site, served, conversations: Vec::new(), begun: 0 }
    }

    /// Lets clients come, talk and go.
    pub(crate) fn stir(&mut self, random: &mut Random) -> Result<(), String> {
        for turn in 0..TURNS {
            // One after the other, or several at once, just when another has gone.
            let arrivals =
                if random.chance(5) { 1 + random.below(5) } else { usize::from(random.chance(25)) };
            for _ in 0..arrivals.max(usize::from(self.conversations.is_empty())) {
                if self.conversations.len() < CLIENTS {
                    self.begin(random)?;
                }
            }
            let at = random.below(self.conversations.len());
            if self.conversations[at].go_on()? {
                self.conversations.swap_remove(at).leave();
            }
            if turn % 8 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn begin(&mut self, random: &mut Random) -> Result<(), String> {
        let (address, tls) = match random.chance(30) {
            true => (self.served.tls, Some(&self.site.trusting)),
            false => (self.served.plain, None),
        };
        let marker = Marker::new(self.begun);
        self.begun += 1;
        let wire = Wire::connect(address, tls).map_err(|error| format!("cannot connect: {error}"))?;
        let script = script(random, marker.text(), wire.is_tls());
        let conversation =
            Conversation { wire, marker, script, sabotaged: false, tail: Vec::new(), received: 0 };
        self.conversations.push(conversation);
        Ok(())
    }

    /// Lets all clients go, in whatever way.
    pub(crate) fn disperse(&mut self, random: &mut Random) {
        for mut conversation in self.conversations.drain(..) {
            match random.below(3) {
                0 => conversation.wire.reset(),
                1 => conversation.wire.finish(),
                _ => {}
            }
        }
    }
}

impl Conversation {
    /// Takes a step; tells whether it was the last.
    fn go_on(&mut self) -> Result<bool, String> {
        match self.script.front_mut() {
            None => return Ok(true),
            Some(Step::Leave | Step::Reset) => return Ok(true),
            Some(Step::Deaf(turns)) => {
                if *turns == 0 {
                    self.script.pop_front();
                } else {
                    *turns -= 1;
                }
                return Ok(false);
            }
            Some(Step::Listen(turns)) if *turns > 0 => *turns -= 1,
            Some(_) => match self.script.pop_front() {
                Some(Step::Send(bytes)) => self.wire.send(&bytes),
                Some(Step::SendRaw(bytes)) => {
                    self.sabotaged = true;
                    self.wire.send_raw(&bytes);
                }
                Some(Step::Finish) => self.wire.finish(),
                _ => {}
            },
        }
        let came = self.wire.progress();
        // A server never begins.
        if !self.wire.has_sent() && (!came.bytes.is_empty() || came.ended) && !self.wire.is_tls() {
            let text = excerpt(&came.bytes);
            return Err(format!(
                "{} has sent nothing, and received {text:?}, ended: {}",
                self.marker, came.ended
            ));
        }
        if self.received == 0 && !self.wire.is_tls() {
            let begin = &came.bytes[..came.bytes.len().min(5)];
            if !b"HTTP/".starts_with(begin) {
                return Err(format!("{} received no response, but {:?}", self.marker, excerpt(&came.bytes)));
            }
        }
        match came.broken {
            Some(rustls::Error::AlertReceived(_)) | None => {}
            Some(_) if self.sabotaged => {}
            Some(error) => return Err(format!("{} received what breaks its TLS: {error}", self.marker)),
        }
        self.look_for_others(&came.bytes)?;
        Ok(came.ended)
    }

    fn look_for_others(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.received += bytes.len();
        self.tail.extend_from_slice(bytes);
        if let Some(at) = first_of_another(&self.marker, &self.tail) {
            let text = excerpt(&self.tail[at.saturating_sub(200)..]);
            return Err(format!("{} received what is another's: {text:?}", self.marker));
        }
        let keep = self.tail.len().min(Marker::BYTES - 1);
        self.tail.drain(..self.tail.len() - keep);
        Ok(())
    }

    fn leave(mut self) {
        if let Some(Step::Reset) = self.script.pop_front() {
            self.wire.reset();
        }
    }
}

/// Enough to see what it is.
fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}
