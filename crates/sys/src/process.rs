//! What the kernel says of a process, and of the calling process: start times, names, memory.
#![allow(unsafe_code)]

use std::fs;
use std::io;

/// The name that `ps` shows, cut to 15 bytes.
pub fn set_name(name: &str) -> io::Result<()> {
    let mut bytes: Vec<u8> = name.bytes().filter(|b| *b != 0).take(15).collect();
    bytes.push(0);
    // SAFETY: the name ends with a zero byte and outlives the call.
    let result = unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr(), 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// When a process started, in clock ticks since boot: together with the id it names one process for good.
/// `None` when there is no such process. (proc_pid_stat(5), field 22)
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    Ok(stat(pid)?.and_then(|fields| fields.get(19)?.parse().ok()))
}

/// Whether a process lives: a zombie does not. (field 3)
pub fn is_alive(pid: i32) -> io::Result<bool> {
    let state = stat(pid)?.and_then(|fields| fields.first().cloned());
    Ok(state.is_some_and(|s| s != "Z" && s != "X"))
}

/// The process that it is a child of; 0 for one outside of this pid namespace. `None` when there is no such process.
/// (field 4)
pub fn parent(pid: i32) -> io::Result<Option<i32>> {
    Ok(stat(pid)?.and_then(|fields| fields.get(1)?.parse().ok()))
}

/// The fields of /proc/PID/stat after the name, which may hold spaces and brackets itself.
fn stat(pid: i32) -> io::Result<Option<Vec<String>>> {
    let text = match fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        // ESRCH: it ended between open and read.
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&text);
    let (_, fields) = text.rsplit_once(") ").ok_or_else(|| io::Error::other("no name in /proc/PID/stat"))?;
    Ok(Some(fields.split(' ').map(|field| field.trim().to_owned()).collect()))
}

/// Makes all threads share so many heaps at most, instead of one for each: for a process whose many threads mostly wait.
/// To be called before there are threads.
pub fn limit_heaps(count: u8) {
    // SAFETY: sets a number of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::from(count));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}

/// Gives free memory of the heap back to the kernel: for a process that was busy and will now wait.
pub fn trim_heap() {
    // SAFETY: touches the allocator's own free lists alone, under its lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the mapped pages of the program's own file: for a process that was busy and will now wait. They are a large part of
/// what a small process is counted for; those that are needed again are mapped again, from memory.
pub fn unmap_program() {
    // SAFETY: the callback has the type that is asked for, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(unmap_object), std::ptr::null_mut()) };
}

/// For the first object, which is the program itself.
unsafe extern "C" fn unmap_object(info: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut libc::c_void) -> libc::c_int {
    let page = rustix::param::page_size();
    // SAFETY: the C library passes a description that is valid during the call, with so many headers.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr as usize, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = (base + header.p_vaddr as usize) & !(page - 1);
        let end = (base + (header.p_vaddr + header.p_memsz) as usize).next_multiple_of(page);
        // SAFETY: nobody can have written to a segment without the right to, so the file still has what its pages had,
        // and a page that is touched again, also by the code that runs now, is read from there.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_named_by_id_and_start() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        let start = start_time(pid).unwrap().unwrap();
        assert!(start >= start_time(std::process::id() as i32).unwrap().unwrap());
        assert!(is_alive(pid).unwrap());
        drop(child.stdin.take());
        // Waiting for its end without reaping it: a zombie has a start time and is not alive.
        let id = WaitId::Pid(Pid::from_raw(pid).unwrap());
        waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(!is_alive(pid).unwrap());
        assert_eq!(start_time(pid).unwrap(), Some(start));
        child.wait().unwrap();
        assert_eq!(start_time(pid).unwrap(), None);
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        let mapped = || {
            let text = fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = mapped();
        unmap_program();
        assert!(mapped() < before, "{} of {before} KiB", mapped());
    }

    #[test]
    fn a_thread_gets_a_name() {
        std::thread::spawn(|| {
            set_name("a name that is far too long").unwrap();
            assert_eq!(fs::read_to_string("/proc/thread-self/comm").unwrap(), "a name that is \n");
        })
        .join()
        .unwrap();
    }
}
