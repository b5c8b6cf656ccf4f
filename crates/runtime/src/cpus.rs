//! Which CPUs this process may use.

use std::fs;
use std::io;
use std::path::Path;

/// The CPUs in this thread's affinity mask, in ascending order.
pub(crate) fn allowed() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain data, for which zeroes are valid, and is as large as the call is told.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return vec![0];
    }
    // SAFETY: the index stays below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Binds the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {cpu}")));
    }
    // SAFETY: a cpu_set_t is plain data, for which zeroes are valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index was checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is as large as the call is told; 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPU time that the process's control groups grant, in CPUs; `None` for no limit.
pub(crate) fn quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    quota_in(Path::new("/sys/fs/cgroup"), &groups)
}

/// The smallest limit on the way from the process's group up to the root: `cpu.max` of cgroup v2,
/// `cpu.cfs_quota_us` of v1.
fn quota_in(root: &Path, groups: &str) -> Option<f64> {
    let mut smallest: Option<f64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let root = match controllers {
            "" => root.to_owned(),
            v1 if v1.split(',').any(|name| name == "cpu") => root.join("cpu"),
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        for folder in group.ancestors().take_while(|folder| folder.starts_with(&root)) {
            if let Some(cpus) = limit_of(folder) {
                smallest = Some(smallest.map_or(cpus, |known| known.min(cpus)));
            }
        }
    }
    smallest
}

fn limit_of(folder: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(line) => {
            let (quota, period) = line.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    // `max` and -1 stand for no limit.
    let quota: f64 = quota.trim().parse().ok().filter(|quota| *quota > 0.0)?;
    let period: f64 = period.trim().parse().ok().filter(|period| *period > 0.0)?;
    Some(quota / period)
}

/// The CPUs for `count` cores: `wanted`, or else the allowed ones, as many as the quota grants.
pub(crate) fn choose(count: Option<usize>, wanted: Option<&[usize]>) -> Vec<usize> {
    let cpus = wanted.map_or_else(allowed, <[usize]>::to_vec);
    let granted = if wanted.is_some() { None } else { quota() };
    let default = granted.map_or(cpus.len(), |quota| cpus.len().min((quota.ceil() as usize).max(1)));
    // More cores than CPUs share them in turn.
    cpus.iter()
        .copied()
        .cycle()
        .take(if cpus.is_empty() { 0 } else { count.unwrap_or(default).max(1) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_can_be_pinned_to_an_allowed_cpu() {
        std::thread::spawn(|| {
            let cpu = *allowed().last().unwrap();
            pin(cpu).unwrap();
            assert_eq!(allowed(), [cpu]);
        })
        .join()
        .unwrap();
        assert!(pin(1_000_000).is_err());
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota_in(root.path(), "0::/a/b\n"), None);
        fs::write(root.path().join("a/cpu.max"), "150000 100000\n").unwrap();
        assert_eq!(quota_in(root.path(), "0::/a/b\n"), Some(1.5));
        fs::write(group.join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(quota_in(root.path(), "0::/a/b\n"), Some(0.5));
    }

    #[test]
    fn version_one_groups_are_read_as_well() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("cpu/job");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        fs::write(group.join("cpu.cfs_period_us"), "100000\n").unwrap();
        let groups = "4:memory:/job\n3:cpu,cpuacct:/job\n";
        assert_eq!(quota_in(root.path(), groups), None);
        fs::write(group.join("cpu.cfs_quota_us"), "200000\n").unwrap();
        assert_eq!(quota_in(root.path(), groups), Some(2.0));
    }

    #[test]
    fn cores_go_round_the_cpus_that_were_named() {
        assert_eq!(choose(Some(3), Some(&[4, 6])), [4, 6, 4]);
        assert_eq!(choose(None, Some(&[4, 6])), [4, 6]);
        assert!(!choose(None, None).is_empty());
    }
}
