//! `docker load`: images from an archive that `docker save` or a tool that writes OCI layouts made.

use std::io;

use api::progress::{Message, ProgressDetail};
use bytes::Bytes;
use futures_util::Stream;
use oci::Platform;

use super::progress::{self, ProgressStream};
use super::{LoadOptions, platform_of, upload};
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Takes in the images of an archive, in whatever compression.
    pub async fn image_load(
        &self,
        options: LoadOptions,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<ProgressStream> {
        let platform: Option<Platform> = platform_of(&options.platform)?;
        let engine = self.arc();
        progress::run(move |lines| async move {
            let (reader, feeding) = upload::reader(body);
            let told = (!options.quiet).then(|| lines.clone());
            let tell = move |id: &str, current: u64, total: u64| {
                if let Some(lines) = &told {
                    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
                    let detail = ProgressDetail::bytes(number(current), number(total));
                    lines.offer(Message::action(id, "Loading layer", detail));
                }
            };
            let loading = engine.registry.load(&engine.store, reader, platform.as_ref(), tell);
            let (loaded, ()) = tokio::join!(loading, feeding);
            engine.has_grown();
            for image in loaded.map_err(progress::failure)? {
                for (name, old) in &image.replaced {
                    let text = format!(
                        "The image {} already exists, renaming the old one with ID {old} to empty string\n",
                        name.familiar()
                    );
                    lines.send(stream_line(text)).await?;
                }
                if image.names.is_empty() {
                    lines.send(stream_line(format!("Loaded image ID: {}\n", image.image_id))).await?;
                }
                for name in &image.names {
                    lines.send(stream_line(format!("Loaded image: {}\n", name.familiar()))).await?;
                }
                engine.image_event("load", image.image_id.as_str(), image.image_id.as_str()).await;
            }
            Ok(())
        })
        .await
    }
}

fn stream_line(text: String) -> Message {
    Message { stream: text, ..Message::default() }
}
