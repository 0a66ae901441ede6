//! The open instances of a running service, and what changes them while it runs: each is opened, changed and closed by
//! one request at a time, with its files on disk first, then its event in the ledger, and only then in memory. Requests
//! that run meanwhile keep the instance as they found it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use quittance_events::facts::{InstanceAdded, InstanceClosed};
use quittance_events::{InstanceId, NewEvent, TokenId};
use quittance_taler::{EddsaPrivateKey, ErrorCode};
use url::Url;

use crate::instance::{Instance, InstanceFile, KeyFileError, KeyFolder, instance_url, random_key};
use crate::limits::INSTANCES_MAX;
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;
use crate::settings::Settings;
use crate::token::Token;
use crate::token_file::ChangeError;

type Open = BTreeMap<InstanceId, Arc<Instance>>;

/// The open instances.
pub struct Instances {
    open: RwLock<Arc<Open>>,
    folder: KeyFolder,
    base_url: Url,
    /// Whoever opens, changes or closes one is alone with them.
    change: tokio::sync::Mutex<()>,
}

/// What a request to open one says.
pub struct NewInstance {
    /// Its id.
    pub id: InstanceId,
    /// For people.
    pub name: String,
    /// The rest.
    pub settings: Settings,
    /// The token that it is to take; without one only those of the whole service open its doors.
    pub token: Option<zeroize::Zeroizing<String>>,
}

impl Instances {
    /// These, whose files are in this folder.
    #[must_use]
    pub fn new(open: Open, folder: KeyFolder, base_url: Url) -> Instances {
        Instances {
            open: RwLock::new(Arc::new(open)),
            folder,
            base_url,
            change: tokio::sync::Mutex::default(),
        }
    }

    /// All of them, as of now.
    #[must_use]
    pub fn all(&self) -> Arc<BTreeMap<InstanceId, Arc<Instance>>> {
        // Swapped whole, so that no panic leaves it half-way.
        Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        self.all().get(id).map(Arc::clone)
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn swap(&self, change: impl FnOnce(&mut Open)) {
        let mut held = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let mut open = Open::clone(&held);
        change(&mut open);
        *held = Arc::new(open);
    }

    /// Works on the key folder, which blocks.
    async fn in_folder<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(KeyFolder) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, RequestError> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(folder)).await;
        done.map_err(|_| RequestError::Task)
    }
}

impl Service {
    /// Opens an instance, with the key that it had before where it was open before. One that is open with the same name,
    /// settings and token stays as it is.
    ///
    /// # Errors
    /// It is open with others, there are too many, the token is none, or what kept it from being recorded.
    pub async fn open_instance(&self, new: NewInstance, by: &TokenId) -> Result<(), RequestError> {
        let _alone = self.instances.change.lock().await;
        let bad_auth = |e: &dyn std::fmt::Display| {
            Refusal::new(ErrorCode::MerchantPrivatePostInstancesBadAuth).detail(e)
        };
        let token = match &new.token {
            Some(text) => Some(Token::keep(text).map_err(|e| bad_auth(&e))?),
            None => None,
        };
        if let Some(open) = self.instances.get(&new.id) {
            let tokens = self.access.tokens(&new.id).await;
            let mut set = tokens.iter().filter(|token| token.is_auth);
            let same_token = match &new.token {
                Some(text) => set.any(|token| token.is(text)),
                None => set.next().is_none(),
            };
            let is_same = same_token && open.name == new.name && open.settings == new.settings;
            return is_same.then_some(()).ok_or_else(|| {
                let refusal = Refusal::new(ErrorCode::MerchantPrivatePostInstancesAlreadyExists);
                refusal
                    .detail("it is open with another name, settings or token")
                    .into()
            });
        }
        if self.instances.len() >= INSTANCES_MAX {
            let why = format!("at most {INSTANCES_MAX} instances are open at once");
            return Err(Refusal::new(ErrorCode::GenericForbidden).detail(why).into());
        }
        if self.disk.is_low() {
            return Err(RequestError::DiskLow);
        }
        let now = (self.clock)();
        let mut file = InstanceFile {
            name: new.name.clone(),
            settings: new.settings.clone(),
            ..InstanceFile::default()
        };
        if let Some(mut token) = token {
            token.created_s = Some(now.floor_s());
            token.is_auth = true;
            file.add(token, now).map_err(|e| bad_auth(&e))?;
        }
        let id = new.id.clone();
        // Files first: an instance in the ledger without its key could never sign.
        let written = self.instances.in_folder(move |folder| {
            let key = folder.earlier_key(&id)?.unwrap_or_else(random_key);
            folder.write_instance(&id, &key, &file)?;
            // Where its closing was cut short, or was before webhooks were taken away with it.
            folder.remove_webhooks(&id)?;
            Ok::<EddsaPrivateKey, KeyFileError>(key)
        });
        let key = written.await??;
        let instance = Instance {
            base_url: instance_url(&self.instances.base_url, &new.id),
            id: new.id,
            merchant: Arc::new(key),
            name: new.name,
            settings: new.settings,
        };
        let facts = InstanceAdded {
            merchant_pub: instance.merchant.merchant_pub(),
            base_url: instance.base_url.to_string(),
            currency: self.currency,
            by: Some(by.clone()),
        };
        let book = self.ledger.book();
        let mut same_key = book
            .instances
            .iter()
            .filter(|(_, open)| open.merchant_pub == facts.merchant_pub);
        let is_shared = same_key.any(|(id, _)| *id != instance.id);
        let recorded = book.instances.get(&instance.id);
        if is_shared || recorded.is_some_and(|open| open.merchant_pub != facts.merchant_pub) {
            let refusal = Refusal::new(ErrorCode::MerchantPrivatePostInstancesAlreadyExists);
            let why = if is_shared {
                "another instance has its merchant key"
            } else {
                "it is open with another merchant key, whose file is gone"
            };
            return Err(refusal.detail(why).into());
        }
        // Where it is recorded though it is not among ours, an earlier try could not be ended after that.
        if recorded.is_none() {
            self.record_of(&instance.id, NewEvent::bare(facts)).await?;
        }
        self.access.open_door(&instance.id).await?;
        self.webhooks.open_of(&instance.id).await;
        self.instances.swap(|open| {
            open.insert(instance.id.clone(), Arc::new(instance));
        });
        Ok(())
    }

    /// Changes an instance's name and settings; orders made from here on carry the new ones.
    ///
    /// # Errors
    /// It is not open, or its file cannot be written.
    pub async fn change_instance(
        &self,
        id: &InstanceId,
        change: impl FnOnce(&mut String, &mut Settings) -> Result<(), Refusal>,
    ) -> Result<(), RequestError> {
        let _alone = self.instances.change.lock().await;
        let open = self.instances.get(id).ok_or_else(unknown)?;
        let (mut name, mut settings) = (open.name.clone(), open.settings.clone());
        change(&mut name, &mut settings)?;
        let (of, told) = (id.clone(), (name.clone(), settings.clone()));
        let written = self.instances.in_folder(move |folder| {
            folder.change_file(&of, |file| {
                (file.name, file.settings) = told;
                Ok(())
            })
        });
        written.await?.map_err(|error| match error {
            ChangeError::File(error) => RequestError::KeyFile(error),
            // No token is changed.
            ChangeError::Full | ChangeError::Description | ChangeError::Unknown => RequestError::Task,
        })?;
        let changed = Instance {
            id: id.clone(),
            merchant: Arc::clone(&open.merchant),
            base_url: open.base_url.clone(),
            name,
            settings,
        };
        self.instances.swap(|open| {
            open.insert(id.clone(), Arc::new(changed));
        });
        Ok(())
    }

    /// Closes an instance. Its events, key and tokens stay where they are; nobody gets in any more, and its webhooks are
    /// taken away.
    ///
    /// # Errors
    /// It is not open, what kept it from being recorded, or its webhooks' file cannot be removed; then it is closed.
    pub async fn close_instance(&self, id: &InstanceId, by: &TokenId) -> Result<(), RequestError> {
        let _alone = self.instances.change.lock().await;
        let open = self.instances.get(id).ok_or_else(unknown)?;
        let facts = InstanceClosed {
            merchant_pub: open.merchant.merchant_pub(),
            base_url: open.base_url.to_string(),
            currency: self.currency,
            by: Some(by.clone()),
        };
        self.record_of(id, NewEvent::bare(facts)).await?;
        self.instances.swap(|open| {
            open.remove(id);
        });
        self.access.close_door(id);
        self.webhooks.close_of(id).await
    }
}

fn unknown() -> Refusal {
    Refusal::new(ErrorCode::MerchantGenericInstanceUnknown)
}
