//! The active registrations in virtual time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::super::phone::PhoneNumber;
use super::{ALL, End, Limits, PER_DEVICE, Refusal, Registration, Wanted};
use crate::identity::principal::UserId;
use crate::protocol::number::Number;
use crate::protocol::time::Timestamp;

/// The active registrations. Each method first lets go of what has ended.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) limits: Limits,
    pub(super) all: HashMap<Uuid, Registration>,
    /// The registration of each (phoneNumber, deviceId).
    pub(super) pairs: BTreeMap<(PhoneNumber, Uuid), Uuid>,
    /// (user, deviceId, registration).
    pub(super) owners: BTreeSet<(UserId, Uuid, Uuid)>,
    pub(super) ends: BTreeSet<(Timestamp, Uuid)>,
    /// Ended, and still in the store.
    pub(super) gone: Vec<Uuid>,
    /// Ended, and not told yet.
    pub(super) untold: Vec<(Registration, End)>,
}

impl Book {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            all: HashMap::new(),
            pairs: BTreeMap::new(),
            owners: BTreeSet::new(),
            ends: BTreeSet::new(),
            gone: Vec::new(),
            untold: Vec::new(),
        }
    }

    pub(super) fn create(
        &mut self,
        now: Timestamp,
        wanted: Wanted,
        id: Uuid,
    ) -> Result<Registration, Refusal> {
        self.expire(now);
        let Wanted { user, device, number, expires } = wanted;
        let expires = self.end(now, expires)?;
        if self.pairs.contains_key(&(number.clone(), device)) {
            return Err(Refusal::AlreadyExists);
        }
        let Limits { per_number, devices_per_user, .. } = self.limits;
        let of_number = (number.clone(), Uuid::nil())..=(number.clone(), Uuid::max());
        if self.pairs.range(of_number).count() >= per_number {
            return Err(Refusal::PerNumber(per_number));
        }
        let on_device = self.on_device(&user, device).count();
        if on_device >= PER_DEVICE {
            return Err(Refusal::PerDevice(PER_DEVICE));
        }
        if on_device == 0 && self.devices(&user) >= devices_per_user {
            return Err(Refusal::Devices(devices_per_user));
        }
        if self.all.len() >= ALL {
            return Err(Refusal::Full);
        }
        let made = Registration { id, user, device, number, expires };
        self.insert(made.clone());
        Ok(made)
    }

    pub(super) fn get(&mut self, now: Timestamp, user: &UserId, id: Uuid) -> Result<Registration, Refusal> {
        self.expire(now);
        self.all.get(&id).filter(|one| one.user == *user).cloned().ok_or(Refusal::NotFound)
    }

    pub(super) fn list(&mut self, now: Timestamp, user: &UserId, device: Uuid) -> Vec<Registration> {
        self.expire(now);
        let mut found: Vec<_> =
            self.on_device(user, device).filter_map(|id| self.all.get(&id)).cloned().collect();
        found.sort_by(|a, b| a.number.cmp(&b.number));
        found
    }

    /// Before and after.
    pub(super) fn refresh(
        &mut self,
        now: Timestamp,
        user: &UserId,
        id: Uuid,
        expires: Option<Timestamp>,
    ) -> Result<(Registration, Registration), Refusal> {
        let before = self.get(now, user, id)?;
        let after = Registration { expires: self.end(now, expires)?, ..before.clone() };
        self.insert(after.clone());
        Ok((before, after))
    }

    pub(super) fn remove(
        &mut self,
        now: Timestamp,
        user: &UserId,
        id: Uuid,
    ) -> Result<Registration, Refusal> {
        self.get(now, user, id)?;
        self.forget(id).ok_or(Refusal::NotFound)
    }

    /// When a registration ends that is asked for now.
    fn end(&self, now: Timestamp, asked: Option<Timestamp>) -> Result<Timestamp, Refusal> {
        let Limits { shortest, longest, usual, .. } = self.limits;
        // webrtc-registration.yaml, updateRegistrationById: newExpire = t_req + TTL_cfg, not from t_prev.
        let Some(asked) = asked else { return Ok(now + usual) };
        let least = now + shortest;
        if asked < least {
            return Err(Refusal::TooSoon { least });
        }
        Ok(asked.min(now + longest))
    }

    fn on_device(&self, user: &UserId, device: Uuid) -> impl Iterator<Item = Uuid> {
        let range = (user.clone(), device, Uuid::nil())..=(user.clone(), device, Uuid::max());
        self.owners.range(range).map(|(_, _, id)| *id)
    }

    fn devices(&self, user: &UserId) -> usize {
        let range = (user.clone(), Uuid::nil(), Uuid::nil())..=(user.clone(), Uuid::max(), Uuid::max());
        let mut devices: Vec<Uuid> = self.owners.range(range).map(|(_, device, _)| *device).collect();
        devices.dedup();
        devices.len()
    }

    /// Adds one, or puts it in the place of its earlier self.
    fn insert(&mut self, one: Registration) {
        self.forget(one.id);
        self.pairs.insert((one.number.clone(), one.device), one.id);
        self.owners.insert((one.user.clone(), one.device, one.id));
        self.ends.insert((one.expires, one.id));
        self.all.insert(one.id, one);
    }

    fn forget(&mut self, id: Uuid) -> Option<Registration> {
        let one = self.all.remove(&id)?;
        self.pairs.remove(&(one.number.clone(), one.device));
        self.owners.remove(&(one.user.clone(), one.device, id));
        self.ends.remove(&(one.expires, id));
        Some(one)
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some(&(end, id)) = self.ends.first().filter(|(end, _)| *end <= now) {
            let one = self.forget(id);
            self.untold.extend(one.map(|one| (one, End::Expired)));
            self.ends.remove(&(end, id));
            self.gone.push(id);
        }
    }

    /// Ends all registrations of a number.
    pub(super) fn lose(&mut self, number: &Number) {
        let number = number.to_string();
        let of_number = self.all.values().filter(|one| one.number.as_str() == number).map(|one| one.id);
        for id in of_number.collect::<Vec<_>>() {
            let one = self.forget(id);
            self.untold.extend(one.map(|one| (one, End::Lost)));
            self.gone.push(id);
        }
    }

    /// When the next one ends.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Takes one from the store. Where a deletion was not written, a pair may be there twice: the one that ends last stays.
    pub(super) fn restore(&mut self, now: Timestamp, one: Registration) {
        let pair = (one.number.clone(), one.device);
        let rival =
            self.pairs.get(&pair).and_then(|id| self.all.get(id)).map(|rival| (rival.expires, rival.id));
        match rival {
            _ if one.expires <= now => {
                self.gone.push(one.id);
                self.untold.push((one, End::Expired));
            }
            Some((expires, _)) if expires >= one.expires => self.gone.push(one.id),
            rival => {
                if let Some((_, id)) = rival {
                    self.forget(id);
                    self.gone.push(id);
                }
                self.insert(one);
            }
        }
    }

    /// Takes back a change that was not written, unless another change came after it.
    pub(super) fn take_back(&mut self, from: &Registration, to: Option<Registration>) {
        if self.all.get(&from.id) == Some(from) {
            self.forget(from.id);
            to.into_iter().for_each(|to| self.insert(to));
        }
    }

    /// Brings back what could not be deleted, for its owner to ask again; not if another has taken its place.
    pub(super) fn bring_back(&mut self, one: Registration) {
        if self.pairs.contains_key(&(one.number.clone(), one.device)) {
            self.gone.push(one.id);
        } else {
            self.insert(one);
        }
    }
}
