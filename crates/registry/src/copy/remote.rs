//! A repository as a source, and as a destination.

use oci::digest::Digest;
use oci::{Descriptor, Manifest, media_type};
use tokio::sync::mpsc;

use super::content::{self, Feed, pause};
use super::flight::Flights;
use super::{Choice, Content, Destination, Image, Layer, Made, Source, Tap, type_of};
use crate::error::{Error, Result};
use crate::progress::{LayerProgress, LayerStatus, Sender};
use crate::remote::{Fetched, Mount, Pieces, Remote, Session, pieces, retry};

/// Repositories that one blob is tried to be mounted from.
const MAX_MOUNTS: usize = 3;

impl Source for Remote {
    async fn document(&self, digest: &Digest) -> Result<Fetched> {
        self.manifest("", Some(digest)).await
    }

    async fn image(&self, fetched: Fetched, manifest: Manifest) -> Result<Image> {
        let here = || vec![(self.domain.clone(), self.path.clone())];
        let layer = |blob: Descriptor| Layer { choices: vec![Choice { blob, repositories: here() }], diff_id: None };
        let Manifest { config, layers, .. } = manifest;
        Ok(Image { manifest: Some(fetched), config, layers: layers.into_iter().map(layer).collect() })
    }

    async fn open(&self, blob: &Descriptor, offset: u64) -> Result<Content> {
        let body = self.blob(&blob.digest, blob.size, offset).await?;
        let skip = offset.saturating_sub(body.start);
        Ok(Content::Web { response: body.response, skip })
    }

    async fn settle(&self, layer: &Layer, _: Option<Tap>) -> Result<Descriptor> {
        // A manifest in a registry names each layer as one blob.
        layer.choices.first().map(|choice| choice.blob.clone()).ok_or(Error::UnknownBlob)
    }
}

/// A repository that is pushed to.
pub(crate) struct Pushing<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) flights: &'a Flights,
    pub(crate) progress: &'a Sender,
}

/// A layer that is to be in the repository in the end.
pub(crate) struct Part {
    layer: Layer,
    progress: LayerProgress,
}

impl Destination for Pushing<'_> {
    type Part = Part;
    type Placed = Fetched;

    fn lanes(&self) -> usize {
        self.remote.options.max_uploads
    }

    async fn has(&self, document: &Fetched) -> Result<Option<Fetched>> {
        Ok(self.remote.has_manifest(&document.digest).await?.then(|| document.clone()))
    }

    /// From the highest layer down, as Docker shows them.
    async fn parts<S: Source>(&self, _: &S, image: &Image) -> Result<Vec<Part>> {
        let part = |layer: &Layer| {
            let shown = layer.diff_id.as_ref().or_else(|| layer.choices.first().map(|choice| &choice.blob.digest));
            let progress = LayerProgress::new(self.progress, shown.unwrap_or(&image.config.digest));
            Part { layer: layer.clone(), progress }
        };
        let parts: Vec<Part> = image.layers.iter().rev().map(part).collect();
        for part in &parts {
            part.progress.state(LayerStatus::Preparing).await?;
        }
        for part in parts.iter().skip(self.lanes()) {
            part.progress.state(LayerStatus::Waiting).await?;
        }
        Ok(parts)
    }

    /// Brings a layer into the repository, in the cheapest way that works.
    async fn bring<S: Source>(&self, source: &S, part: &Part) -> Result<Descriptor> {
        let Part { layer, progress } = part;
        for Choice { blob, .. } in &layer.choices {
            if self.remote.has_blob(&blob.digest).await? {
                progress.state(LayerStatus::LayerAlreadyExists).await?;
                return Ok(blob.clone());
            }
        }
        if let [Choice { blob, .. }] = layer.choices.as_slice()
            && media_type::is_foreign_layer(&blob.media_type)
        {
            progress.state(LayerStatus::SkippedForeignLayer).await?;
            return Ok(blob.clone());
        }
        let begun = match self.mount(layer).await? {
            Mounted::From(blob, repository) => {
                progress.state(LayerStatus::MountedFrom(repository)).await?;
                return Ok(*blob);
            }
            Mounted::No(session) => session,
        };
        let (blob, begun) = self.make(source, layer, begun, progress).await?;
        let is_begun = begun.as_ref().is_some_and(|session| session.offset > 0);
        let is_new = layer.choices.iter().all(|choice| choice.blob.digest != blob.digest);
        let key = format!("{}/{}@{}", self.remote.domain, self.remote.path, blob.digest);
        let turn = self.flights.board(key, progress).await?;
        if (is_new && !is_begun || turn.waited) && self.remote.has_blob(&blob.digest).await? {
            progress.state(LayerStatus::LayerAlreadyExists).await?;
            return Ok(blob);
        }
        self.upload(source, &blob, begun, &turn.voice(progress)).await?;
        progress.state(LayerStatus::Pushed).await?;
        Ok(blob)
    }

    async fn image<S: Source>(&self, source: &S, image: &Image, mut brought: Vec<Descriptor>) -> Result<Fetched> {
        brought.reverse();
        if !self.remote.has_blob(&image.config.digest).await? {
            self.config(source, &image.config).await?;
        }
        let own = image.manifest.clone().filter(|_| {
            // The source may have had to make another blob of a layer than the manifest names.
            let named = image.layers.iter().filter_map(|layer| layer.choices.first());
            named.map(|choice| &choice.blob.digest).eq(brought.iter().map(|blob| &blob.digest))
        });
        if let Some(manifest) = own {
            return Ok(Fetched { media_type: type_of(&manifest), ..manifest });
        }
        let config = Descriptor::new(media_type::DOCKER_CONFIG, image.config.digest.clone(), image.config.size);
        let bytes = Manifest::docker(config, brought).to_bytes();
        Ok(Fetched { media_type: media_type::DOCKER_MANIFEST.to_owned(), digest: Digest::of(&bytes), bytes })
    }

    async fn index(&self, index: &Fetched, children: Vec<Fetched>) -> Result<Fetched> {
        for child in children {
            self.remote.put_manifest(child.digest.as_str(), &child.media_type, child.bytes).await?;
        }
        Ok(Fetched { media_type: type_of(index), ..index.clone() })
    }
}

/// What became of all attempts to mount a layer.
enum Mounted {
    /// This blob came from this repository.
    From(Box<Descriptor>, String),
    /// Nobody had it. The registry may have begun an upload.
    No(Option<Session>),
}

impl Pushing<'_> {
    async fn mount(&self, layer: &Layer) -> Result<Mounted> {
        let mut begun = None;
        for Choice { blob, repositories } in &layer.choices {
            let elsewhere =
                |(domain, path): &&(String, String)| *domain == self.remote.domain && *path != self.remote.path;
            for (_, from) in repositories.iter().filter(elsewhere).take(MAX_MOUNTS) {
                match self.remote.mount(&blob.digest, from).await? {
                    Mount::Mounted => return Ok(Mounted::From(Box::new(blob.clone()), from.clone())),
                    Mount::Upload(session) => begun = Some(session),
                    Mount::Refused => {}
                }
            }
        }
        Ok(Mounted::No(begun))
    }

    /// The blob of a layer. One that has to be made is sent meanwhile: what became of that is an upload, from whose offset
    /// on the rest is to be sent.
    async fn make<S: Source>(
        &self,
        source: &S,
        layer: &Layer,
        begun: Option<Session>,
        progress: &LayerProgress,
    ) -> Result<(Descriptor, Option<Session>)> {
        let Some(diff_id) = &layer.diff_id else { return Ok((source.settle(layer, None).await?, begun)) };
        // Whoever wants the same layer elsewhere waits, and finds it made.
        let turn = self.flights.board(format!("blob of {diff_id}"), progress).await?;
        let voice = turn.voice(progress);
        let (tap, made) = Tap::new(turn);
        let (blob, sent) = tokio::join!(source.settle(layer, Some(tap)), self.send_unmeasured(begun, made, voice));
        Ok((blob?, sent))
    }

    /// Sends what comes, until no more does. Without any it begins nothing, and a failure is no more than an upload that
    /// is not complete: when the blob is made its bytes can be read again.
    async fn send_unmeasured(
        &self,
        begun: Option<Session>,
        mut made: mpsc::Receiver<Made>,
        progress: LayerProgress,
    ) -> Option<Session> {
        let Some(first) = made.recv().await else { return begun };
        let session = match begun {
            Some(session) => session,
            None => self.remote.begin_upload().await.ok()?,
        };
        let (feeder, pieces) = pieces();
        let feeding = async move {
            let mut next = Some(first);
            while let Some(Made { bytes, position: (current, total) }) = next {
                if !feeder.send(bytes).await {
                    return;
                }
                progress.count(LayerStatus::Pushing { current, total });
                next = made.recv().await;
            }
        };
        // An upload that fails lets go of the pieces, with which the feeding ends, and the making goes on alone.
        let (sent, ()) = tokio::join!(self.remote.patch(session.clone(), None, pieces), feeding);
        match sent {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::info!(%error, "upload of what is being made broke off");
                if let Error::Busy { after, .. } = error {
                    tokio::time::sleep(after).await;
                }
                self.remote.resume_upload(&session).await
            }
        }
    }

    /// Sends an image configuration, or what stands in its place in an artifact.
    async fn config<S: Source>(&self, source: &S, config: &Descriptor) -> Result<()> {
        let bytes = content::config(source, &self.remote.options, config).await.map_err(|error| match error {
            Error::Download { source, .. } => *source,
            other => other,
        })?;
        self.remote.put_bytes(&config.digest, bytes).await
    }

    /// Sends a blob, however many requests that takes within the limit.
    async fn upload<S: Source>(
        &self,
        source: &S,
        blob: &Descriptor,
        mut begun: Option<Session>,
        progress: &LayerProgress,
    ) -> Result<()> {
        let options = &self.remote.options;
        let (mut attempts, mut in_chunks) = (1, false);
        loop {
            let session = match begun.take() {
                Some(session) => session,
                None => self.remote.begin_upload().await?,
            };
            let error = match self.send(source, blob, session.clone(), in_chunks, progress).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if attempts >= options.attempts {
                return Err(error);
            }
            // Something on the way takes no requests of this length.
            if error.is_too_large() && !in_chunks {
                in_chunks = true;
                continue;
            }
            // A body that is a stream cannot be sent again with the new token by the request itself.
            if !error.is_transient() && !error.is_refusal() {
                return Err(error);
            }
            tracing::info!(%error, blob = %blob.digest, "upload broke off");
            let wait = match error {
                Error::Busy { after, .. } => after,
                _ => retry::delay(options, attempts),
            };
            pause(progress, wait).await?;
            attempts += 1;
            begun = self.remote.resume_upload(&session).await;
        }
    }

    /// One attempt to send what the registry lacks of a blob.
    async fn send<S: Source>(
        &self,
        source: &S,
        blob: &Descriptor,
        mut session: Session,
        in_chunks: bool,
        progress: &LayerProgress,
    ) -> Result<()> {
        if session.offset == 0 && !in_chunks {
            let mut feed = Feed::new(source, &self.remote.options, blob, progress, 0);
            let sent = |pieces| self.remote.put_whole(session, &blob.digest, blob.size, pieces);
            return pump(&mut feed, blob.size, progress, sent).await;
        }
        while session.offset < blob.size {
            let left = blob.size - session.offset;
            let length = if in_chunks { left.min(session.chunk()) } else { left };
            // Opened anew for each request: a source that stays open keeps a place at its host, which may be this one.
            let mut feed = Feed::new(source, &self.remote.options, blob, progress, session.offset);
            let (before, here) = (session.offset, session.clone());
            session = pump(&mut feed, length, progress, |pieces| self.remote.patch(here, Some(length), pieces)).await?;
            // It may keep less than it was sent, but not nothing.
            if session.offset <= before {
                return Err(Error::Body(format!("the registry keeps nothing behind byte {before} of {}", blob.digest)));
            }
        }
        self.remote.finish_upload(&session, &blob.digest).await
    }
}

/// Hands so many bytes of a feed to a request while that is under way.
async fn pump<S: Source, T, F>(
    feed: &mut Feed<'_, S>,
    length: u64,
    progress: &LayerProgress,
    request: impl FnOnce(Pieces) -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let (mut feeder, pieces) = pieces();
    let sending = request(pieces);
    let feeding = async {
        let mut left = if feeder.is_wanted().await { length } else { 0 };
        while left > 0 {
            // A blob that ends before its descriptor says is not that blob.
            let piece = feed.next(left).await?.ok_or_else(|| feed.mismatch())?;
            left -= piece.len() as u64;
            let (current, total) = feed.position();
            if !feeder.send(piece).await {
                // The request has ended, and says why.
                break;
            }
            progress.count(LayerStatus::Pushing { current, total });
        }
        drop(feeder);
        Ok::<(), Error>(())
    };
    tokio::pin!(sending, feeding);
    let mut is_fed = false;
    loop {
        tokio::select! {
            sent = &mut sending => return sent,
            // A source that fails ends the request with it: what was sent must not be taken for the whole.
            fed = &mut feeding, if !is_fed => {
                fed?;
                is_fed = true;
            }
        }
    }
}
