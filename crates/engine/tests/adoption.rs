//! Containers outlive their engine, and the next engine knows what happened in between.
#![allow(missing_docs)]

mod support;

use support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_is_adopted() {
    let world = World::new().await;
    let id =
        world.run("web", World::request(&["sh", "-c", "while ! test -e /tmp/end; do sleep 0.05; done; exit 9"])).await;
    let pid = world.engine.container_inspect(&id, false).await.unwrap().state.pid;
    let world = world.restart().await;
    let state = world.engine.container_inspect("web", false).await.unwrap().state;
    assert_eq!((state.status.as_str(), state.pid), ("running", pid));
    let exec = api::exec::CreateRequest { cmd: Some(vec!["touch".into(), "/tmp/end".into()]), ..Default::default() };
    let exec = world.engine.exec_create(&id, exec).await.unwrap().id;
    world.engine.exec_start(&exec, api::exec::StartRequest { detach: true, ..Default::default() }).await.unwrap();
    assert_eq!(world.exit_code(&id).await, 9);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_without_engine_is_known_later() {
    let world = World::new().await;
    let id = world.run("web", World::request(&["sleep", "1000"])).await;
    // The container ends while the first engine is being dropped or after it: either way the second one knows.
    let pid = world.engine.container_inspect(&id, false).await.unwrap().state.pid;
    let engine = world.restart_after(|| {
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    });
    let world = engine.await;
    assert_eq!(world.exit_code(&id).await, 137);
    let state = world.engine.container_inspect(&id, false).await.unwrap().state;
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", 137));
    world.end().await;
}

/// The shim is what knows a container; without it, what is left is ended and cleaned away, and the engine says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_is_the_end_of_its_container() {
    let world = World::new().await;
    let id = world.run("web", World::request(&["sleep", "1000"])).await;
    let pid = world.engine.container_inspect(&id, false).await.unwrap().state.pid;
    let socket = world.engine.container(&id).unwrap().directories().shim_socket();
    let shim = shim::Client::connect(&socket).unwrap().state().unwrap().shim_pid;
    let process = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let process = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).unwrap();
    let kill = |pid| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
    };
    kill(shim).unwrap();
    assert_eq!(world.exit_code(&id).await, 255);
    let mut ended = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut ended, Some(&patience)).unwrap(), 1, "its process goes on");
    // It can be started again, which makes all of it anew.
    world.engine.container_start(&id).await.unwrap();
    assert!(world.engine.container_inspect(&id, false).await.unwrap().state.running);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shall_always_run_comes_back() {
    let world = World::new().await;
    let mut request = World::request(&["sleep", "1000"]);
    request.host_config.restart_policy.name = "always".into();
    let id = world.run("always", request).await;
    world.engine.container_stop(&id, engine::StopOptions { timeout_s: Some(0), signal: None }).await.unwrap();
    let world = world.restart().await;
    let mut watch = world.engine.container(&id).unwrap().watch();
    watch.wait_for(|r| r.state.status.has_process()).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_are_removed() {
    let world = World::new().await;
    let containers = world.config.data_root.join("containers");
    std::fs::create_dir_all(containers.join("f".repeat(64))).unwrap();
    std::fs::create_dir_all(containers.join(".removing-x")).unwrap();
    // Killed while it was made: its record is there, and one of its volumes.
    let mut request = World::request(&["true"]);
    request.config.volumes = Some([("/data".to_owned(), Default::default())].into());
    let id = world.create("half", request).await;
    let half = world.engine.container(&id).unwrap().directories().clone();
    std::fs::rename(&half.data, half.begun()).unwrap();
    std::fs::create_dir_all(world.config.exec_root.join("containers").join("e".repeat(64)).join("rootfs")).unwrap();
    world.engine.store.snapshot_create(&"d".repeat(64), None, store::SnapshotOptions::default()).unwrap();
    let world = world.restart().await;
    assert!(world.engine.store.snapshots().is_empty());
    assert!(world.engine.volume_list(&Default::default()).await.unwrap().volumes.is_empty());
    world.end().await;
}
