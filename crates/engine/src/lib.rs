//! The life of containers, execs, volumes and images, and the events they cause.
//!
//! [`Engine`] is the whole interface: its methods take and return the types of crate `api` (latest version) and fail with an
//! [`Error`] whose kind decides the HTTP status and whose text is Docker's. Nothing here knows HTTP.
//!
//! ```text
//! Engine::start(EngineConfig) -> Result<Arc<Engine>>          adopts what runs, removes what nobody owns
//!   .shutdown()                                               containers go on running
//!
//! container_create(name: Option<&str>, platform: Option<&str>, CreateRequest) -> CreateResponse
//! container_start(id)                    container_pause(id)  container_unpause(id)
//! container_stop(id, StopOptions)        container_restart(id, StopOptions)
//! container_kill(id, signal: Option<&str>)                    container_rename(id, new_name)
//! container_remove(id, RemoveOptions)    container_update(id, UpdateConfig) -> UpdateResponse
//! container_wait(id, WaitCondition) -> impl Future<Output = Result<WaitResponse>> + 'static
//!                                                             the outer await ends when the waiting has begun (send headers then)
//! container_inspect(id, size: bool) -> InspectResponse        container_list(ListOptions) -> Vec<Summary>
//! container_top(id, ps_args) -> TopResponse                   container_resize(id, height, width)
//! container_stats(id, StatsOptions) -> impl Stream<Item = Stats>
//! container_prune(&Filters) -> PruneResponse
//! exec_create(container, exec::CreateRequest) -> exec::CreateResponse
//! exec_start(exec_id, exec::StartRequest) -> Option<AttachSession>    None when detached
//! exec_resize(exec_id, height, width)    exec_inspect(exec_id) -> exec::InspectResponse
//! volume_create(CreateRequest) -> Volume                      volume_list(&Filters) -> ListResponse
//! volume_inspect(name) -> Volume         volume_remove(name, force)   volume_prune(&Filters) -> PruneResponse
//! network_list(&Filters) -> Vec<Network> network_inspect(name_or_id) -> Network
//! network_create(..) network_remove(..) network_connect(..) network_disconnect(..)   refused by name
//! info() -> Info    version() -> Version    events(EventsOptions) -> impl Stream<Item = event::Message>
//! ```
//! The image half is in [`image`], `attach`/`logs` in theirs, `archive` (cp, export, changes) in its own.
//!
//! Inside, one actor task per container owns its state ([`container`]); everybody else reads the immutable record that the
//! actor last published. No lock is held across an await.

mod adopt;
mod archive;
pub mod attach;
mod budget;
pub mod config;
pub mod container;
mod engine;
pub mod error;
pub mod events;
mod exec;
mod health;
pub mod image;
pub mod logs;
mod networking;
mod platform;
mod policy;
mod proxy;
mod restart;
mod stats;
mod system;
mod volume;

pub use archive::{ArchivePutOptions, ByteStream};
pub use attach::{AttachOptions, AttachSession};
pub use budget::DiskBudget;
pub use config::EngineConfig;
pub use container::list::ListOptions;
pub use container::remove::RemoveOptions;
pub use container::stop::StopOptions;
pub use container::wait::WaitCondition;
pub use container::{Container, Table};
pub use engine::Engine;
pub use error::{Error, Kind, Result};
pub use events::{Broker, EventsOptions};
pub use logs::{Logs, LogsOptions};
pub use stats::StatsOptions;
pub use system::storage_driver;
