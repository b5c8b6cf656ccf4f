//! A file that is kept open, and what it is at the moment.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use gimmal_runtime::{File, Metadata};
use http::HeaderMap;

use super::representation::{Representation, Source, is_settled};

/// Contents up to this size are kept in memory: the response is then collected with others for one send. Larger ones are
/// cheaper to send out of the page cache.
const KEPT_BYTES_MAX: u64 = 8 * 1024;
/// A file that was changed less than this ago may change again with no later time to show for it: clocks of file systems
/// stand still for up to 10 ms.
const UNSETTLED: Duration = Duration::from_millis(100);

/// One file of those that a path may be answered with.
#[derive(Debug)]
pub(super) struct Variant {
    file: Rc<File>,
    headers: HeaderMap,
    current: RefCell<Option<Current>>,
}

/// What was found last.
#[derive(Debug)]
struct Current {
    metadata: Metadata,
    representation: Rc<Representation>,
    /// Its tag is the one that stays.
    is_settled: bool,
}

impl Variant {
    /// `headers` are what is known from the name.
    pub(super) fn new(file: std::fs::File, headers: HeaderMap) -> Self {
        Self { file: Rc::new(File::from_std(file)), headers, current: RefCell::default() }
    }

    /// What the file is now: its length and time are asked for each time.
    pub(super) async fn current(&self) -> io::Result<Rc<Representation>> {
        let metadata = self.file.metadata()?;
        if let Some(known) = &*self.current.borrow()
            && known.metadata == metadata
            && (known.is_settled || !is_settled(&metadata))
        {
            return Ok(Rc::clone(&known.representation));
        }
        let content = self.settled_content(&metadata).await?;
        let is_kept = content.is_some() || metadata.len > KEPT_BYTES_MAX;
        let source = content.unwrap_or_else(|| Source::File(Rc::clone(&self.file)));
        // Before the tag is made: it may settle meanwhile, and be made anew once too often.
        let is_settled = is_settled(&metadata);
        let representation = Rc::new(Representation::of_file(source, &metadata, self.headers.clone()));
        if is_kept {
            let representation = Rc::clone(&representation);
            self.current.replace(Some(Current { metadata, representation, is_settled }));
        }
        Ok(representation)
    }

    /// All that is in a small file, unless it is being changed.
    async fn settled_content(&self, metadata: &Metadata) -> io::Result<Option<Source>> {
        let age = SystemTime::now().duration_since(metadata.modified).unwrap_or_default();
        if metadata.len > KEPT_BYTES_MAX || age < UNSETTLED {
            return Ok(None);
        }
        let content = self.file.read_at(0).await?;
        let unchanged = content.len() as u64 == metadata.len && self.file.metadata()? == *metadata;
        Ok(unchanged.then(|| Source::Bytes(content.into_bytes())))
    }
}
