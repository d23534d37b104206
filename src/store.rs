//! What was acknowledged, on disk.
//!
//! One [redb](https://docs.rs/redb) file, an object a row, so that a change of one NIC
//! writes one NIC. A commit is on disk when it returns. The file also keeps what the
//! host's settings were before they were changed, so that `purge` can restore them.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    net::Ipv6Addr,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    failpoint::reach,
    model::{
        Desired, Generation, GroupId, IfPattern, Member, Members, Nic, SecurityGroup, differences,
    },
};

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

/// The format of the file; another one is refused.
const FORMAT: u32 = 1;

/// redb's cache, of which the default is a gigabyte.
const CACHE_OCTETS: usize = 4 << 20;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const NICS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("nics");
const GROUPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("groups");
const MEMBERS: TableDefinition<'_, (&str, u128), &[u8]> = TableDefinition::new("members");
const SETTINGS: TableDefinition<'_, &str, u64> = TableDefinition::new("settings");

/// Everything that was acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// What the management server wants.
    pub desired: Desired,
    /// Its generation.
    pub generation: Option<Generation>,
    /// The agent's own count of changes.
    pub revision: u64,
    /// What settings of the host were before the agent changed them, by a name that
    /// the caller chooses.
    pub settings: BTreeMap<String, u64>,
    /// The entries of the configuration whose bridges are enforced; nothing where that was
    /// never decided.
    pub adopted: Option<BTreeSet<IfPattern>>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("store {path}: {what}: {cause}", path = path.display())]
pub struct StoreError {
    path: PathBuf,
    what: &'static str,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// The store at `path` did not do `what`.
    pub fn new(
        path: PathBuf,
        what: &'static str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let cause = cause.into();
        Self { path, what, cause }
    }
}

/// Keeps what was acknowledged.
pub trait Store: Send + 'static {
    /// What was committed last; nothing where nothing ever was.
    fn load(&mut self) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Makes `after` of `before`, which is what was committed last, on disk.
    fn commit(
        &mut self,
        before: &Saved,
        after: &Saved,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A store in a redb file.
#[derive(Debug)]
pub struct Redb {
    path: PathBuf,
    /// Nothing after a failure: redb refuses all that follows one, and is opened anew.
    database: Option<Database>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    generation: Option<Generation>,
    revision: u64,
    #[serde(default)]
    adopted: Option<BTreeSet<IfPattern>>,
}

/// What a commit writes: rows to put and rows to take away.
#[derive(Default)]
struct Edits {
    nics: Vec<(String, Option<Vec<u8>>)>,
    groups: Vec<(String, Option<Vec<u8>>)>,
    members: Vec<(String, u128, Option<Vec<u8>>)>,
    settings: Vec<(String, Option<u64>)>,
    head: Vec<u8>,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Redb {
    /// Opens the file, or makes it. A file that is damaged is an error: what it says would be
    /// programmed.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        match checked(&path) {
            Ok(database) => Ok(Self {
                path,
                database: Some(database),
            }),
            Err(error) => Err(StoreError::new(path, "can't be opened", error)),
        }
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&Database) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, database) = (self.path.clone(), self.database.take());
        let done = tokio::task::spawn_blocking(move || {
            let database = match database {
                Some(database) => database,
                None => open(&path)?,
            };
            work(&database).map(|value| (database, value))
        });
        match done.await.unwrap_or_else(|stopped| Err(stopped.into())) {
            Ok((database, value)) => {
                self.database = Some(database);
                Ok(value)
            }
            Err(cause) => Err(StoreError::new(self.path.clone(), what, cause)),
        }
    }
}

/// Opens the file where it is whole; makes it where there is none.
fn checked(path: &Path) -> Result<Database, Cause> {
    match path.metadata() {
        // An empty one would be taken for a new one, and all NICs for gone.
        Ok(found) if found.len() == 0 => return Err("it is empty: it was truncated".into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
        Err(error) => return Err(error.into()),
    }
    // redb panics at some damage.
    match catch_unwind(|| whole(path)) {
        Ok(done) => done,
        Err(_) => Err("it is damaged".into()),
    }
}

fn whole(path: &Path) -> Result<Database, Cause> {
    let mut database = open(path)?;
    // Otherwise checksums are looked at after a crash only.
    if database.check_integrity()? {
        Ok(database)
    } else {
        Err("it is damaged".into())
    }
}

/// It gets its name when it is whole.
fn make(path: &Path) -> Result<(), Cause> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    drop(open(&new)?);
    std::fs::rename(new, path)?;
    Ok(())
}

fn open(path: &Path) -> Result<Database, redb::DatabaseError> {
    Database::builder()
        .set_cache_size(CACHE_OCTETS)
        .create(path)
}

impl Store for Redb {
    async fn load(&mut self) -> Result<Saved, StoreError> {
        self.blocking("can't be read", load).await
    }

    async fn commit(&mut self, before: &Saved, after: &Saved) -> Result<(), StoreError> {
        let what = "can't be written";
        let edits = Edits::between(before, after)
            .map_err(|cause| StoreError::new(self.path.clone(), what, cause))?;
        reach("commit");
        let done = self
            .blocking(what, move |database| edits.write(database))
            .await;
        reach("committed");
        done
    }
}

impl Edits {
    fn between(before: &Saved, after: &Saved) -> Result<Self, Cause> {
        let head = Head {
            format: FORMAT,
            generation: after.generation.clone(),
            revision: after.revision,
            adopted: after.adopted.clone(),
        };
        let mut edits = Self {
            head: serde_json::to_vec(&head)?,
            ..Self::default()
        };
        for (id, row) in rows(&before.desired.nics, &after.desired.nics)? {
            edits.nics.push((id.to_string(), row));
        }
        for (id, row) in rows(&before.desired.groups, &after.desired.groups)? {
            edits.groups.push((id.to_string(), row));
        }
        let none = Arc::new(Members::new());
        let groups = before
            .desired
            .members
            .keys()
            .chain(after.desired.members.keys());
        for group in groups.collect::<BTreeSet<_>>() {
            let old = before.desired.members.get(group).unwrap_or(&none);
            let new = after.desired.members.get(group).unwrap_or(&none);
            if Arc::ptr_eq(old, new) {
                continue;
            }
            for (address, row) in rows(old, new)? {
                edits
                    .members
                    .push((group.to_string(), u128::from(*address), row));
            }
        }
        for name in before
            .settings
            .keys()
            .filter(|name| !after.settings.contains_key(*name))
        {
            edits.settings.push((name.clone(), None));
        }
        for (name, value) in &after.settings {
            if before.settings.get(name) != Some(value) {
                edits.settings.push((name.clone(), Some(*value)));
            }
        }
        Ok(edits)
    }

    fn write(self, database: &Database) -> Result<(), Cause> {
        let transaction = database.begin_write()?;
        {
            let mut nics = transaction.open_table(NICS)?;
            for (id, row) in self.nics {
                match row {
                    Some(row) => nics.insert(id.as_str(), row.as_slice())?,
                    None => nics.remove(id.as_str())?,
                };
            }
            let mut groups = transaction.open_table(GROUPS)?;
            for (id, row) in self.groups {
                match row {
                    Some(row) => groups.insert(id.as_str(), row.as_slice())?,
                    None => groups.remove(id.as_str())?,
                };
            }
            let mut members = transaction.open_table(MEMBERS)?;
            for (group, address, row) in self.members {
                match row {
                    Some(row) => members.insert((group.as_str(), address), row.as_slice())?,
                    None => members.remove((group.as_str(), address))?,
                };
            }
            let mut settings = transaction.open_table(SETTINGS)?;
            for (name, value) in self.settings {
                match value {
                    Some(value) => settings.insert(name.as_str(), value)?,
                    None => settings.remove(name.as_str())?,
                };
            }
            transaction
                .open_table(META)?
                .insert("head", self.head.as_slice())?;
        }
        reach("commit-written");
        transaction.commit()?;
        Ok(())
    }
}

/// A key, and what is under it.
type Row<'a, K> = (&'a K, Option<Vec<u8>>);

/// The rows that differ: with their new content, or none where they are gone.
fn rows<'a, K: Ord, V: Serialize + PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> Result<Vec<Row<'a, K>>, serde_json::Error> {
    let mut all = Vec::new();
    for found in differences(old, new) {
        let row = found.new.map(serde_json::to_vec).transpose()?;
        all.push((found.key, row));
    }
    Ok(all)
}

fn load(database: &Database) -> Result<Saved, Cause> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Saved::default()),
        Err(error) => return Err(error.into()),
    };
    let Some(head) = meta.get("head")? else {
        return Ok(Saved::default());
    };
    let mut saved = Saved::begun(head.value())?;
    for row in transaction.open_table(NICS)?.iter()? {
        saved.add_nic(row?.1.value())?;
    }
    for row in transaction.open_table(GROUPS)?.iter()? {
        saved.add_group(row?.1.value())?;
    }
    for row in transaction.open_table(MEMBERS)?.iter()? {
        let (key, value) = row?;
        saved.add_member(key.value(), value.value())?;
    }
    for row in transaction.open_table(SETTINGS)?.iter()? {
        let (name, value) = row?;
        saved
            .settings
            .insert(name.value().to_owned(), value.value());
    }
    Ok(saved)
}

/// Row by row, of what is on disk.
impl Saved {
    fn begun(head: &[u8]) -> Result<Self, Cause> {
        let head: Head = parse(head)?;
        if head.format != FORMAT {
            let found = head.format;
            return Err(format!("its format is {found}, this version knows {FORMAT}").into());
        }
        Ok(Self {
            generation: head.generation,
            revision: head.revision,
            adopted: head.adopted,
            ..Self::default()
        })
    }

    fn add_nic(&mut self, row: &[u8]) -> Result<(), Cause> {
        let nic: Nic = parse(row)?;
        self.desired.nics.insert(nic.id.clone(), Arc::new(nic));
        Ok(())
    }

    fn add_group(&mut self, row: &[u8]) -> Result<(), Cause> {
        let group: SecurityGroup = parse(row)?;
        let Desired {
            groups, members, ..
        } = &mut self.desired;
        members.insert(group.id.clone(), Arc::default());
        groups.insert(group.id.clone(), Arc::new(group));
        Ok(())
    }

    fn add_member(&mut self, (group, address): (&str, u128), row: &[u8]) -> Result<(), Cause> {
        let group: GroupId = group.parse()?;
        let member: Member = parse(row)?;
        let members = self.desired.members.entry(group).or_default();
        Arc::make_mut(members).insert(Ipv6Addr::from(address), member);
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(row: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let group: SecurityGroup = serde_json::from_str(
            r#"{"id":"web","name":"","rules":[{"direction":"ingress",
                "protocol":{"tcp":{"first":80,"last":80}},"remote":"anyone","description":""}]}"#,
        )
        .unwrap();
        let nic: Nic = serde_json::from_str(
            r#"{"id":"n1","instance_id":"","instance_name":"","mac":"06:b2:00:00:04:79",
                "interfaces":[{"name":"vnet0"}],"addresses":[],"slaac_prefix":"2001:db8::/64",
                "link_local":null,"virtual_macs":[],"delegated_prefixes":[],
                "on_link_prefix":null,"groups":["web"],"permissions":[],
                "icmpv6_default":null,"egress_default":null,"ipv4":null}"#,
        )
        .unwrap();
        let address: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let member = Member {
            address,
            delegated_prefixes: Vec::new(),
        };
        let mut saved = Saved {
            revision: 3,
            adopted: Some(["br0".parse().unwrap(), "br-*".parse().unwrap()].into()),
            ..Saved::default()
        };
        saved.generation = Some(Generation {
            number: 9,
            fingerprint: "f".into(),
        });
        saved.desired.nics.insert(nic.id.clone(), Arc::new(nic));
        saved
            .desired
            .members
            .insert(group.id.clone(), Arc::new([(address, member)].into()));
        saved
            .desired
            .groups
            .insert(group.id.clone(), Arc::new(group));
        saved.settings.insert("x".into(), 1);
        saved
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let mut store = Redb::open(path.clone()).unwrap();
        assert_eq!(store.load().await.unwrap(), Saved::default());
        store.commit(&Saved::default(), &saved()).await.unwrap();
        drop(store);
        let mut store = Redb::open(path.clone()).unwrap();
        assert_eq!(store.load().await.unwrap(), saved());
        let less = Saved {
            revision: 4,
            ..Saved::default()
        };
        store.commit(&saved(), &less).await.unwrap();
        drop(store);
        assert_eq!(Redb::open(path).unwrap().load().await.unwrap(), less);
    }

    /// nft refuses such a rule, and with it all others.
    #[test]
    fn a_row_with_a_range_that_runs_backwards_is_refused() {
        let row = |first| {
            format!(
                r#"{{"id":"g","name":"","rules":[{{"direction":"ingress",
                    "protocol":{{"tcp":{{"first":{first},"last":80}}}},
                    "remote":"anyone","description":""}}]}}"#
            )
        };
        let mut saved = Saved::default();
        saved.add_group(row(80).as_bytes()).unwrap();
        let error = saved.add_group(row(81).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("backwards"), "{error}");
    }

    #[test]
    fn an_error_names_the_file() {
        let error = Redb::open("/no/such/directory/state.redb".into())
            .unwrap_err()
            .to_string();
        assert!(error.contains("/no/such/directory/state.redb"), "{error}");
    }
}
