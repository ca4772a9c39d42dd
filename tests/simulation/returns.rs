//! Members that come back: as they were, under another name, after a power loss of their own, or as an
//! image that was taken long before.

use super::world::{Check, Running, World};
use palisade::array::MemberState;
use palisade::error::ErrorKind;
use std::sync::Arc;

impl World {
    /// Somebody copies a member's disk away.
    pub fn take_image(&mut self) {
        let members = self.healthy();
        let Some(path) = self.random.pick(&members).map(|m| m.path.clone()) else { return };
        if let Some(image) = self.disks.image(&path) {
            self.note(|| format!("image of {path}"));
            self.images.insert(path, image);
        }
    }

    /// Puts an older image in the place of a disk, which is gone for whoever just opened it; says whether there
    /// was one.
    pub fn put_image_back(&mut self, path: &str) -> bool {
        let Some(image) = self.images.remove(path) else { return false };
        self.note(|| format!("{path} is an older image now"));
        if let Some(disk) = self.disks.detach(path) {
            disk.vanish();
        }
        self.disks.attach(path, &image);
        true
    }

    /// Puts an older image in the place of any disk of which there is one.
    pub fn put_some_image_back(&mut self) -> bool {
        let mut names: Vec<String> = self.images.keys().cloned().collect();
        names.retain(|name| self.disks.get(name).is_some());
        self.random.pick(&names).cloned().is_some_and(|name| self.put_image_back(&name))
    }

    /// A member that was lost works again.
    pub async fn bring_one_back(&mut self) -> Check {
        let away = |state| matches!(state, MemberState::Faulty | MemberState::Missing | MemberState::Stale);
        let lost: Vec<_> = self.report().members.into_iter().filter(|m| away(m.state)).collect();
        let Some(path) = self.random.pick(&lost).map(|m| m.path.clone()) else { return Ok(()) };
        let Some(disk) = self.disks.get(&path).filter(|_| !path.is_empty()) else { return Ok(()) };
        disk.heal();
        disk.come_back();
        self.faulted.remove(&path);
        self.arm();
        if self.random.chance(300) {
            disk.lose_power();
        }
        if self.random.chance(250) {
            self.put_image_back(&path);
        }
        let mut name = path.clone();
        if self.random.chance(250) {
            name = format!("/dev/moved{}", self.next_disk);
            self.next_disk += 1;
            if let Some(disk) = self.disks.detach(&path) {
                self.disks.attach(&name, &disk);
            }
            if self.evil.remove(&path) {
                self.evil.insert(name.clone());
            }
        }
        self.note(|| format!("{path} works again, as {name}"));
        if self.random.chance(600) {
            self.take_back(&name).await?;
        }
        Ok(())
    }

    /// An admin gives a disk that was lost.
    async fn take_back(&mut self, name: &str) -> Check {
        let Running { process, array } = self.running();
        let Ok(candidate) = self.open(&process, name).await else { return Ok(()) };
        let array = Arc::clone(&array);
        let taken = self.command("add", async move { array.take_back(&candidate, None).await }).await?;
        self.note(|| format!("taken back: {taken:?}"));
        match taken {
            Ok(_) => Ok(()),
            // Its slot is being filled, the array has failed, or it fails again.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::Busy | ErrorKind::Failed | ErrorKind::Io | ErrorKind::Timeout
                ) =>
            {
                Ok(())
            }
            Err(e) => Err(format!("{name} is not taken back: {}", e.report())),
        }
    }
}
