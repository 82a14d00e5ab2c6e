//! Removing images with the rules of `docker rmi`.
//!
//! A name is taken away first; the image follows when no name is left and nothing needs it. What may stand in the way:
//!
//! | conflict | can be forced |
//! |---|---|
//! | another image was committed from it | no |
//! | a running container uses it | no |
//! | it has names in several repositories, and was given by id | yes |
//! | a stopped container uses it | yes |

use std::collections::HashSet;

use oci::Reference;
use oci::image_config::RootFs;

use super::{Image, ImageId, ImageUsers, Removal, children, key_of, load, names_of, resolve};
use crate::db::{self, ImageRecord, Reading, Writing};
use crate::error::{Error, Result};
use crate::gc;
use crate::store::{Change, Inner, Store};

/// Asks which containers use an image.
type Users<'a> = &'a dyn Fn(&ImageId) -> ImageUsers;

impl Store {
    /// Removes an image, or one of its names, as `docker rmi` does, in one transaction.
    ///
    /// `force` takes away names and deletes in spite of stopped containers; `prune_parents` deletes the images that it
    /// was committed from as well if they have no name. `users` must not call the store.
    pub fn image_remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        users: &dyn Fn(&ImageId) -> ImageUsers,
    ) -> Result<Vec<Removal>> {
        self.0.change(|change| {
            let mut removal = Remover { change, inner: &self.0, users, force, records: Vec::new() };
            removal.run(name, prune_parents)?;
            let records = removal.records;
            gc::collect(change, &self.0)?;
            Ok(records)
        })
    }

    /// Removes an image with all its names, whatever stopped containers it has, unless something keeps it: a child, a
    /// running container, or `is_kept`, which is asked when nothing can change any more. None: it is kept.
    pub(crate) fn image_remove_unless(
        &self,
        id: &ImageId,
        users: Users<'_>,
        is_kept: impl Fn(&Change<'_>) -> Result<bool>,
    ) -> Result<Option<Vec<Removal>>> {
        self.0.change_if(|change| {
            if is_kept(change)? {
                return Ok((None, false));
            }
            let mut removal = Remover { change, inner: &self.0, users, force: true, records: Vec::new() };
            if removal.check(id, false, true)?.is_some() {
                return Ok((None, false));
            }
            removal.delete(id, true, false, false)?;
            let records = removal.records;
            gc::collect(change, &self.0)?;
            Ok((Some(records), true))
        })
    }
}

struct Remover<'a, 'b> {
    change: &'a mut Change<'b>,
    inner: &'a Inner,
    users: Users<'a>,
    force: bool,
    records: Vec<Removal>,
}

/// Why an image cannot be deleted.
struct Conflict {
    hard: bool,
    /// A container is the reason.
    used: bool,
    message: String,
}

impl Conflict {
    fn into_error(self, id: &ImageId) -> Error {
        let force = if self.hard { "cannot be forced" } else { "must be forced" };
        Error::ImageConflict(format!("conflict: unable to delete {} ({force}) - {}", id.short(), self.message))
    }
}

impl Remover<'_, '_> {
    fn run(&mut self, name: &str, prune: bool) -> Result<()> {
        let id = resolve(&self.change.txn, name)?;
        let names = names_of(&self.change.txn, &id)?;
        let by_id = id.as_str().starts_with(name) || id.digest().hex().starts_with(name);
        if !by_id {
            let users = (self.users)(&id);
            if let Some(container) = users.running.or(users.stopped)
                && !self.force
                && is_single_reference(&names)
            {
                return Err(Error::ImageConflict(format!(
                    "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using \
                     its referenced image {}",
                    container.get(..12).unwrap_or(&container),
                    id.short()
                )));
            }
            let reference = Reference::parse_normalized(name)?.with_default_tag();
            if !self.untag_with_digests(&id, &reference, &names)?.is_empty() {
                return Ok(());
            }
        } else if is_single_reference(&names) {
            self.check(&id, !self.force, false)?.map_or(Ok(()), |conflict| Err(conflict.into_error(&id)))?;
            for name in &names {
                self.untag(&id, name)?;
            }
        }
        self.delete(&id, self.force, prune, !by_id)
    }

    /// Takes a name away; if it was the last tag in its repository, the digests of that repository as well.
    /// Returns the names that are left.
    fn untag_with_digests(&mut self, id: &ImageId, name: &Reference, names: &[Reference]) -> Result<Vec<Reference>> {
        let key = key_of(name);
        let mut left: Vec<Reference> = names.iter().filter(|other| other.to_string() != key).cloned().collect();
        self.untag(id, name)?;
        let same_repository = |other: &Reference| other.name() == name.name();
        let has_tag = left.iter().any(|other| other.digest().is_none() && same_repository(other));
        if name.digest().is_none() && !has_tag {
            for digest in left.extract_if(.., |other| same_repository(other)) {
                self.untag(id, &digest)?;
            }
        }
        Ok(left)
    }

    fn untag(&mut self, id: &ImageId, name: &Reference) -> Result<()> {
        self.change.txn.remove(db::NAMES, &key_of(name))?;
        self.records.push(Removal::Untagged { name: name.clone(), image: id.clone() });
        Ok(())
    }

    /// Deletes an image. `quiet`: a name was removed already, so that a conflict only means that this is all.
    fn delete(&mut self, id: &ImageId, force: bool, prune: bool, quiet: bool) -> Result<()> {
        if let Some(conflict) = self.check(id, !force, true)? {
            let has_names = !names_of(&self.change.txn, id)?.is_empty();
            let is_dangling = !has_names && children(&self.change.txn, id)?.is_empty();
            if quiet && (!is_dangling || conflict.used) {
                return Ok(());
            }
            return Err(conflict.into_error(id));
        }
        let image = load(&self.change.txn, id)?;
        for name in names_of(&self.change.txn, id)? {
            self.untag(id, &name)?;
        }
        self.forget_parent(id)?;
        self.change.txn.remove(db::IMAGES, id.as_str())?;
        self.records.push(Removal::Deleted(id.clone()));
        self.report_layers(&image)?;
        match image.parent {
            Some(parent) if prune => self.delete(&parent, false, true, true),
            _ => Ok(()),
        }
    }

    /// The images that were committed from this one have no parent any more.
    fn forget_parent(&mut self, id: &ImageId) -> Result<()> {
        for child in children(&self.change.txn, id)? {
            if let Some(mut record) = self.change.txn.get_json::<ImageRecord>(db::IMAGES, child.as_str())? {
                record.parent = None;
                self.change.txn.put_json(db::IMAGES, child.as_str(), &record)?;
            }
        }
        Ok(())
    }

    /// Reports the chain ids that no other image and no snapshot has, from the top down.
    fn report_layers(&mut self, image: &Image) -> Result<()> {
        let chain_ids = |layers: Vec<_>| RootFs { diff_ids: layers, ..RootFs::default() }.chain_ids();
        let mut live = HashSet::new();
        for (_, record) in self.change.txn.all_json::<ImageRecord>(db::IMAGES)? {
            live.extend(chain_ids(record.layers));
        }
        for snapshot in self.change.state.snapshots.values() {
            live.extend(chain_ids(snapshot.layers.clone()));
        }
        let gone = chain_ids(image.layers.iter().map(|layer| layer.diff_id.clone()).collect());
        let gone = gone.into_iter().rev().filter(|chain_id| !live.contains(chain_id));
        self.records.extend(gone.map(Removal::DeletedLayer));
        tracing::debug!(image = %image.id, root = %self.inner.root.display(), "image removed");
        Ok(())
    }

    /// The first conflict. `soft`: those that can be forced count; `names`: of them, names in several repositories too.
    fn check(&self, id: &ImageId, soft: bool, names: bool) -> Result<Option<Conflict>> {
        let conflict = |hard, used, message: String| Ok(Some(Conflict { hard, used, message }));
        let short = |container: &str| container.get(..12).unwrap_or(container).to_owned();
        if !children(&self.change.txn, id)?.is_empty() {
            return conflict(true, false, "image has dependent child images".to_owned());
        }
        let users = (self.users)(id);
        if let Some(container) = users.running {
            return conflict(true, true, format!("image is being used by running container {}", short(&container)));
        }
        if soft && names && !names_of(&self.change.txn, id)?.is_empty() {
            return conflict(false, false, "image is referenced in multiple repositories".to_owned());
        }
        if let Some(container) = users.stopped.filter(|_| soft) {
            return conflict(false, true, format!("image is being used by stopped container {}", short(&container)));
        }
        Ok(None)
    }
}

/// Do these names count as one: a tag, with the digests of the same repository?
fn is_single_reference(names: &[Reference]) -> bool {
    if names.len() <= 1 {
        return true;
    }
    let (digests, tags): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.digest().is_some());
    let mut repositories: HashSet<String> = digests.iter().map(|name| name.name()).collect();
    match tags[..] {
        [] => repositories.len() == 1,
        [tag] => repositories.remove(&tag.name()) && repositories.is_empty(),
        _ => false,
    }
}
