//! The store of a single node: one redb file, one thread that writes it.
//!
//! Batches queue up while the disk works; the thread takes all that wait and commits them in one transaction
//! with one fsync, then answers each. The queue is bounded: when it is full a request is refused at once with
//! [`StoreError::Overloaded`], since a call that can't be recorded must not be promised. After a failure (a full
//! disk) the file is closed, and opened anew for the next request. Dropping the store writes what is queued and
//! closes the file.

use std::fs::OpenOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition,
};
use tokio::sync::oneshot;

use super::{Records, Store, StoreError, Table, Write, check_limits};

/// How many requests may wait unless told otherwise.
pub const DEFAULT_QUEUE: usize = 1024;
/// The most batches in one transaction.
const MAX_GROUP: usize = 256;
/// The format of the records that this program writes.
const FORMAT: u64 = 1;

const FORMAT_TABLE: TableDefinition<'static, &str, u64> = TableDefinition::new("ript-format");

/// A store in one file.
#[derive(Debug)]
pub struct EmbeddedStore {
    queue: Option<SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
}

enum Request {
    Write(Vec<Write>, oneshot::Sender<Result<(), StoreError>>),
    Load(Table, oneshot::Sender<Result<Records, StoreError>>),
    /// Holds the writer up until the other end is dropped, and then fails as a disk does.
    #[cfg(test)]
    Stall(Receiver<()>),
}

impl EmbeddedStore {
    /// Opens the file, or makes it and its directory. Blocks; a damaged file may take a while to repair.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with_queue(path, DEFAULT_QUEUE)
    }

    /// As `open`, with room for `queue` waiting requests.
    pub fn open_with_queue(path: impl AsRef<Path>, queue: usize) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|error| io(path, &error))?;
        }
        let mut file = StoreFile { path: path.to_owned(), database: Some(open_database(path, true)?) };
        let (sender, receiver) = sync_channel(queue.max(1));
        let writer = Builder::new()
            .name("ript-store".into())
            .spawn(move || run(&mut file, &receiver))
            .map_err(|error| io(path, &error))?;
        Ok(Self { queue: Some(sender), writer: Some(writer) })
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let sent = match &self.queue {
            Some(queue) => queue.try_send(request(answer)),
            None => return ready(Err(gone())).boxed(),
        };
        match sent {
            Ok(()) => async move { answered.await.unwrap_or_else(|_| Err(gone())) }.boxed(),
            Err(TrySendError::Full(_)) => ready(Err(StoreError::Overloaded)).boxed(),
            Err(TrySendError::Disconnected(_)) => ready(Err(gone())).boxed(),
        }
    }
}

impl Store for EmbeddedStore {
    fn load(&self, table: Table) -> BoxFuture<'static, Result<Records, StoreError>> {
        self.ask(|answer| Request::Load(table, answer))
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        match check_limits(&batch) {
            Ok(()) => self.ask(|answer| Request::Write(batch, answer)),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // The writer ends when the queue is closed and empty.
        self.queue = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// The writer's end of the file; none is open after a failure.
struct StoreFile {
    path: PathBuf,
    database: Option<Database>,
}

impl StoreFile {
    /// Does a job, on a file opened anew if the last job failed: redb takes nothing more after an IO error.
    fn run<T>(&mut self, job: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            // Never made anew here: an empty file in place of a lost one would hide the loss.
            None => open_database(&self.path, false)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?,
        };
        match job(&database) {
            Ok(done) => {
                self.database = Some(database);
                Ok(done)
            }
            Err(error) => {
                tracing::error!(%error, "the store failed");
                Err(StoreError::Unavailable(error.to_string()))
            }
        }
    }
}

/// The writer's life.
fn run(file: &mut StoreFile, queue: &Receiver<Request>) {
    while let Ok(first) = queue.recv() {
        let mut batches = Vec::new();
        let mut answers = Vec::new();
        let mut next = Some(first);
        let mut load = None;
        while let Some(request) = next.take() {
            match request {
                Request::Write(batch, answer) => {
                    batches.push(batch);
                    answers.push(answer);
                }
                // A read sees every write before it, so the group ends here.
                Request::Load(table, answer) => {
                    load = Some((table, answer));
                    break;
                }
                #[cfg(test)]
                Request::Stall(until) => {
                    let _ = until.recv();
                    file.database = None;
                }
            }
            if batches.len() < MAX_GROUP {
                next = queue.try_recv().ok();
            }
        }
        if !batches.is_empty() {
            let done = file.run(|database| commit(database, &batches));
            // Nobody may wait any more: the write stands all the same.
            answers.into_iter().for_each(|answer| drop(answer.send(done.clone())));
        }
        if let Some((table, answer)) = load {
            drop(answer.send(file.run(|database| read(database, table))));
        }
    }
}

fn commit(database: &Database, batches: &[Vec<Write>]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for write in batches.iter().flatten() {
        match write {
            Write::Put { table, key, value } => {
                transaction.open_table(definition(*table))?.insert(key.as_str(), value.as_slice())?;
            }
            Write::Delete { table, key } => {
                transaction.open_table(definition(*table))?.remove(key.as_str())?;
            }
        }
    }
    // redb's default durability: fsync before this returns.
    transaction.commit()?;
    Ok(())
}

fn read(database: &Database, table: Table) -> Result<Records, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(definition(table))?;
    let mut records = Vec::new();
    for record in table.iter()? {
        let (key, value) = record?;
        records.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(records)
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

fn open_database(path: &Path, create: bool) -> Result<Database, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false);
    // Call records are nobody else's business.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| io(path, &error))?;
    // redb asserts on some kinds of damage; here that is an answer, not the end of the process.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = redb::Builder::new().create_file(file).map_err(|error| refused(path, error))?;
        check_format(&database, path)?;
        Ok(database)
    }));
    opened.unwrap_or_else(|_| Err(corrupt(path, "its pages contradict each other")))
}

/// Refuses what a newer program wrote; prepares a new file.
fn check_format(database: &Database, path: &Path) -> Result<(), StoreError> {
    let prepare = || -> Result<u64, redb::Error> {
        let transaction = database.begin_write()?;
        let found = {
            let mut table = transaction.open_table(FORMAT_TABLE)?;
            let found = table.get("format")?.map(|found| found.value());
            if found.is_none() {
                table.insert("format", FORMAT)?;
            }
            found.unwrap_or(FORMAT)
        };
        if found <= FORMAT {
            for table in Table::ALL {
                transaction.open_table(definition(table))?;
            }
            transaction.commit()?;
        }
        Ok(found)
    };
    match prepare() {
        Ok(found) if found <= FORMAT => Ok(()),
        Ok(found) => Err(StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT }),
        Err(redb::Error::Io(error)) => Err(io(path, &error)),
        Err(error) => Err(corrupt(path, &error.to_string())),
    }
}

fn refused(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked(path.to_owned()),
        // A file cut short shows up as an unexpected end, which no permission mends.
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(
                error.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData
            ) =>
        {
            io(path, &error)
        }
        error => corrupt(path, &error.to_string()),
    }
}

fn corrupt(path: &Path, why: &str) -> StoreError {
    StoreError::Corrupt { path: PathBuf::from(path), why: why.to_owned() }
}

fn io(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Io { path: PathBuf::from(path), why: error.to_string() }
}

fn gone() -> StoreError {
    StoreError::Unavailable("its writer has ended".into())
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
