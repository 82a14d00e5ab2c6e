//! The life of a container against the real kernel: what Docker's users rely on, step by step.
#![allow(missing_docs)]

mod support;

use engine::{Kind, ListOptions, RemoveOptions, StopOptions, WaitCondition};
use futures_util::StreamExt;
use support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_ends() {
    let world = World::new().await;
    let id = world.create("web", World::request(&["sh", "-c", "echo hello; exit 7"])).await;
    let engine = &world.engine;
    let before = engine.container_inspect("web", false).await.unwrap();
    assert_eq!(
        (before.state.status.as_str(), before.id.as_str(), before.name.as_str()),
        ("created", id.as_str(), "/web")
    );
    assert_eq!(before.state.started_at, api::time::ZERO);
    let wait = engine.container_wait(&id[..12], WaitCondition::NextExit).await.unwrap();
    engine.container_start("web").await.unwrap();
    assert_eq!(wait.await.unwrap().status_code, 7);
    let after = engine.container_inspect("web", true).await.unwrap();
    assert_eq!((after.state.status.as_str(), after.state.exit_code, after.state.pid), ("exited", 7, 0));
    assert!(after.size_root_fs.unwrap() > 0);
    assert_eq!(after.config.labels.unwrap()["from"], "image");
    assert_eq!(world.log(&id).await, "hello\n");
    // A second time, the same container.
    engine.container_start(&id).await.unwrap();
    assert_eq!(world.exit_code(&id).await, 7);
    assert_eq!(world.log(&id).await, "hello\nhello\n");
    engine.container_remove("web", RemoveOptions::default()).await.unwrap();
    assert_eq!(engine.container_inspect("web", false).await.unwrap_err().message(), "No such container: web");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_says_why() {
    let world = World::new().await;
    for (name, words, code) in [
        ("missing", ["zork"], 127),
        ("absolute", ["/zork"], 127),
        ("directory", ["/etc"], 126),
        ("plain", ["/etc/passwd"], 126),
    ] {
        let id = world.create(name, World::request(&words)).await;
        let error = world.engine.container_start(&id).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidParameter, "{error}");
        let prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ";
        assert!(error.message().starts_with(prefix), "{error}");
        let state = world.engine.container_inspect(&id, false).await.unwrap().state;
        assert_eq!((state.status.as_str(), state.exit_code, state.error.as_str()), ("created", code, error.message()));
    }
    let mut request = World::request(&["true"]);
    request.config.user = "zork".into();
    let id = world.create("user", request).await;
    let error = world.engine.container_start(&id).await.unwrap_err();
    assert_eq!(error.message(), "unable to find user zork: no matching entries in passwd file");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_kill_pause_and_their_refusals() {
    let world = World::new().await;
    let engine = &world.engine;
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let id = world.run("web", World::request(&["sh", "-c", script])).await;
    // Before that a signal is nothing to the first process of a container.
    world.says(&id, "ready").await;
    assert_eq!(engine.container_start(&id).await.unwrap_err().kind(), Kind::NotModified);
    let text =
        "cannot remove container \"/web\": container is running: stop the container before removing or force remove";
    assert_eq!(engine.container_remove(&id, RemoveOptions::default()).await.unwrap_err().message(), text);
    engine.container_pause(&id).await.unwrap();
    assert_eq!(engine.container_inspect(&id, false).await.unwrap().state.status, "paused");
    assert_eq!(engine.container_pause(&id).await.unwrap_err().message(), format!("Container {id} is already paused"));
    engine.container_unpause(&id).await.unwrap();
    engine.container_stop(&id, StopOptions::default()).await.unwrap();
    assert_eq!(world.exit_code(&id).await, 3);
    assert_eq!(engine.container_stop(&id, StopOptions::default()).await.unwrap_err().kind(), Kind::NotModified);
    assert_eq!(engine.container_kill(&id, None).await.unwrap_err().message(), format!("container {id} is not running"));
    engine.container_restart(&id, StopOptions::default()).await.unwrap();
    engine.container_kill(&id, Some("KILL")).await.unwrap();
    assert_eq!(world.exit_code(&id).await, 137);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_and_can_be_changed() {
    let world = World::new().await;
    let engine = &world.engine;
    let first = world.create("one", World::request(&["true"])).await;
    let second = world.create("two", World::request(&["true"])).await;
    let error = engine.container_create(Some("one"), None, World::request(&["true"])).await.unwrap_err();
    let conflict = format!(
        "Conflict. The container name \"/one\" is already in use by container \"{first}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    assert_eq!((error.kind(), error.message()), (Kind::Conflict, conflict.as_str()));
    assert!(
        engine
            .container_rename("two", "one")
            .await
            .unwrap_err()
            .message()
            .starts_with("Error when allocating new name: Conflict.")
    );
    engine.container_rename("two", "three").await.unwrap();
    assert_eq!(engine.container_inspect("three", false).await.unwrap().id, second);
    assert!(engine.container_inspect("two", false).await.is_err());
    let made = engine.container_create(None, None, World::request(&["true"])).await.unwrap();
    let name = engine.container_inspect(&made.id, false).await.unwrap().name;
    assert!(name.starts_with('/') && name.contains('_'), "{name}");
    let nosuch = engine.container_create(None, None, {
        let mut request = World::request(&["true"]);
        request.config.image = "nosuch".into();
        request
    });
    assert_eq!(nosuch.await.unwrap_err().message(), "No such image: nosuch:latest");
    let all = engine.container_list(ListOptions { all: true, ..ListOptions::default() }).await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(engine.container_list(ListOptions::default()).await.unwrap().is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_filled_and_removed() {
    let world = World::new().await;
    let engine = &world.engine;
    let mut request = World::request(&["sh", "-c", "cat /seed/deep/file /named/deep/file; touch /seed/new; ls /bound"]);
    request.config.volumes = Some([("/seed".to_owned(), Default::default())].into());
    let host = world.path().join("bound");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("there"), "").unwrap();
    request.host_config.binds = Some(vec![format!("{}:/bound:ro", host.display()), "named:/named".into()]);
    request.host_config.auto_remove = true;
    let id = world.create("vol", request).await;
    let gone = engine.container_wait(&id, WaitCondition::Removed).await.unwrap();
    engine.container_start(&id).await.unwrap();
    let code = gone.await.unwrap().status_code;
    // /named holds nothing of the image, because the image has nothing there.
    assert_eq!(code, 0);
    let names: Vec<String> =
        engine.volume_list(&Default::default()).await.unwrap().volumes.into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["named"], "the anonymous volume went with the container");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn execs_run_beside_the_process() {
    let world = World::new().await;
    let engine = &world.engine;
    let id = world.run("web", World::request(&["sleep", "1000"])).await;
    let request = api::exec::CreateRequest {
        cmd: Some(["sh", "-c", "id; echo $IMAGE >&2; exit 4"].map(str::to_owned).to_vec()),
        attach_stdout: true,
        attach_stderr: true,
        user: "web".into(),
        ..Default::default()
    };
    let exec = engine.exec_create(&id, request).await.unwrap().id;
    assert_eq!(engine.container_inspect(&id, false).await.unwrap().exec_ids.unwrap(), std::slice::from_ref(&exec));
    let session = engine.exec_start(&exec, Default::default()).await.unwrap().unwrap();
    let pieces: Vec<_> = session.output.collect().await;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(|p| p.unwrap().to_vec()).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("uid=33(web) gid=34(web) groups=29(audio),34(web)"), "{text}");
    // The end of the output and the news of the end come on two connections.
    let inspected = loop {
        let inspected = engine.exec_inspect(&exec).await.unwrap();
        if !inspected.running {
            break inspected;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(inspected.exit_code, Some(4));
    let again = engine.exec_start(&exec, Default::default()).await.unwrap_err();
    assert_eq!(again.message(), format!("Error: Exec command {exec} has already run"));
    let missing = engine
        .exec_create(&id, api::exec::CreateRequest { cmd: Some(vec!["zork".into()]), ..Default::default() })
        .await
        .unwrap()
        .id;
    let error = engine.exec_start(&missing, Default::default()).await.unwrap_err();
    assert!(
        error.message().starts_with("OCI runtime exec failed: exec failed: unable to start container process: "),
        "{error}"
    );
    assert_eq!(engine.exec_inspect(&missing).await.unwrap().exit_code, Some(127));
    let top = engine.container_top(&id, "").await.unwrap();
    assert_eq!(top.processes.len(), 1);
    assert_eq!(top.processes[0].last().unwrap(), "sleep 1000");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_policies_bring_it_back() {
    let world = World::new().await;
    let mut request = World::request(&["sh", "-c", "exit 5"]);
    request.host_config.restart_policy =
        api::container::RestartPolicy { name: "on-failure".into(), maximum_retry_count: 2 };
    let id = world.run("again", request).await;
    let container = world.engine.container(&id).unwrap();
    let mut watch = container.watch();
    let last = watch.wait_for(|r| r.state.exits == 3 && !r.state.status.counts_as_running()).await.unwrap().clone();
    assert_eq!((last.restart_count, last.state.exit_code), (2, 5));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_decide() {
    let world = World::new().await;
    let mut request = World::request(&["sleep", "1000"]);
    request.config.healthcheck = Some(api::container::HealthConfig {
        test: Some(vec!["CMD-SHELL".into(), "echo fine; test -e /tmp/well".into()]),
        interval: 50_000_000,
        retries: 1,
        ..Default::default()
    });
    let id = world.run("sick", request).await;
    let mut watch = world.engine.container(&id).unwrap().watch();
    let health = |status: &'static str| {
        move |r: &std::sync::Arc<engine::container::record::Record>| {
            r.state.health.as_ref().is_some_and(|h| h.status == status)
        }
    };
    watch.wait_for(health("unhealthy")).await.unwrap();
    let exec = api::exec::CreateRequest { cmd: Some(vec!["touch".into(), "/tmp/well".into()]), ..Default::default() };
    let exec = world.engine.exec_create(&id, exec).await.unwrap().id;
    world.engine.exec_start(&exec, api::exec::StartRequest { detach: true, ..Default::default() }).await.unwrap();
    let record = watch.wait_for(health("healthy")).await.unwrap().clone();
    assert_eq!(record.state.health.as_ref().unwrap().log.as_ref().unwrap().last().unwrap().output, "fine\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_story() {
    let world = World::new().await;
    let events = world.engine.events(engine::EventsOptions::default()).unwrap();
    let mut request = World::request(&["true"]);
    request.host_config.auto_remove = true;
    let id = world.create("story", request).await;
    let gone = world.engine.container_wait(&id, WaitCondition::Removed).await.unwrap();
    world.engine.container_start(&id).await.unwrap();
    gone.await.unwrap();
    let told: Vec<String> = events
        .take_while(|m| std::future::ready(m.action != "destroy"))
        .map(|m| format!("{} {}", m.kind, m.action))
        .collect()
        .await;
    assert_eq!(told, ["container create", "network connect", "container start", "network disconnect", "container die"]);
    world.end().await;
}

/// Two mounts of one upper directory take each other's work directory away, and then no file of the image can be removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_not_mounted_twice() {
    let world = World::new().await;
    let engine = &world.engine;
    let mut request = World::request(&["sh", "-c", "rm /etc/passwd && echo removed"]);
    request.config.working_dir = "/".into();
    for round in 0..10 {
        let id = world.create(&format!("c{round}"), request.clone()).await;
        let start = async {
            engine.container_start(&id).await.unwrap();
            world.exit_code(&id).await
        };
        let look = async {
            loop {
                engine.archive_stat(&id, "/etc").await.unwrap();
            }
        };
        let code = tokio::select! {
            code = start => code,
            never = look => never,
        };
        assert_eq!((code, world.log(&id).await.as_str()), (0, "removed\n"), "round {round}");
    }
    world.end().await;
}
