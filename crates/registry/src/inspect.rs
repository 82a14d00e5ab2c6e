//! What a name is in its registry: the manifest alone is asked for, and the configuration where only that says for which
//! platform an image is.

use oci::manifest::Document;
use oci::{Descriptor, ImageConfig, Platform, Reference};

use crate::Client;
use crate::copy::{Source, parse, type_of};
use crate::error::{Error, Result};
use crate::remote::resolve::Resolver;
use crate::remote::{Actions, Credentials, MAX_CONFIG, Remote};

/// What a registry has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Of the manifest or index.
    pub descriptor: Descriptor,
    /// What there are images for; empty when nothing says so.
    pub platforms: Vec<Platform>,
}

impl Client {
    /// Asks the registry what this name is, `latest` if it has neither tag nor digest.
    pub async fn inspect(&self, reference: &Reference, credentials: &Credentials) -> Result<Inspected> {
        let reference = reference.clone().with_default_tag();
        let resolver = Resolver::default();
        let mut failure = Error::Task;
        for endpoint in self.endpoints(reference.domain(), &resolver, Actions::Pull).await? {
            failure = match self.connect(endpoint, &resolver, &reference, credentials, Actions::Pull).await {
                Ok(remote) => match inspect(&remote, &reference).await {
                    Err(error) if remote.endpoint.is_mirror => error,
                    done => return done,
                },
                Err(error) => error,
            };
        }
        Err(failure)
    }
}

async fn inspect(remote: &Remote, reference: &Reference) -> Result<Inspected> {
    let root = remote.manifest(reference.tag().unwrap_or_default(), reference.digest()).await?;
    let platforms = match parse(&root)? {
        Document::Index(index) => index.manifests.into_iter().filter_map(|entry| entry.platform).collect(),
        Document::Manifest(manifest) => {
            let bytes = remote.open(&manifest.config, 0).await?.bytes("image configuration", MAX_CONFIG).await?;
            // What is no image has no platform, and is described nevertheless.
            let config = Some(bytes).filter(|bytes| manifest.config.digest.verifies(bytes));
            let config = config.and_then(|bytes| ImageConfig::parse(&bytes).ok());
            config.map(|config| config.platform()).into_iter().collect()
        }
    };
    let descriptor = Descriptor::new(&type_of(&root), root.digest, root.bytes.len() as u64);
    Ok(Inspected { descriptor, platforms })
}
