//! What the class of a container has and uses, under the names of runc's statistics.

use std::path::Path;

use serde::Serialize;

use super::{Class, mount_point};

/// What the hardware and the class say; empty without a class.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_info: Option<CacheInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_schema_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_info: Option<BandwidthInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_schema_root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_schema: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schemata: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mbm_stats: Vec<Bandwidth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cmt_stats: Vec<Occupancy>,
}

#[derive(Debug, Serialize)]
struct CacheInfo {
    cbm_mask: String,
    min_cbm_bits: u64,
    num_closids: u64,
}

#[derive(Debug, Serialize)]
struct BandwidthInfo {
    bandwidth_gran: u64,
    delay_linear: u64,
    min_bandwidth: u64,
    num_closids: u64,
}

#[derive(Debug, Serialize)]
struct Bandwidth {
    mbm_total_bytes: u64,
    mbm_local_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Occupancy {
    llc_occupancy: u64,
}

impl Figures {
    /// Of a class. What the hardware does not count is left out.
    pub(crate) fn of(class: Option<&Class>) -> Self {
        match (class, mount_point()) {
            (Some(class), Ok(root)) => Self::read(&root, class),
            _ => Self::default(),
        }
    }

    fn read(root: &Path, class: &Class) -> Self {
        let (all, own) = (schemata(root), schemata(&class.directory));
        let (bandwidth, occupancy) = monitored(class.monitor.as_deref().unwrap_or(&class.directory));
        Self {
            l3_cache_info: cache_info(&root.join("info/L3")),
            l3_cache_schema_root: line(&all, "L3"),
            l3_cache_schema: line(&own, "L3"),
            mem_bw_info: bandwidth_info(&root.join("info/MB")),
            mem_bw_schema_root: line(&all, "MB"),
            mem_bw_schema: line(&own, "MB"),
            schemata: own,
            mbm_stats: bandwidth,
            cmt_stats: occupancy,
        }
    }
}

fn text(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

fn schemata(directory: &Path) -> Vec<String> {
    let text = text(&directory.join("schemata")).unwrap_or_default();
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn line(schemata: &[String], resource: &str) -> Option<String> {
    schemata.iter().find(|line| line.split(':').next() == Some(resource)).cloned()
}

fn cache_info(directory: &Path) -> Option<CacheInfo> {
    Some(CacheInfo {
        cbm_mask: text(&directory.join("cbm_mask"))?,
        min_cbm_bits: number(&directory.join("min_cbm_bits"))?,
        num_closids: number(&directory.join("num_closids"))?,
    })
}

fn bandwidth_info(directory: &Path) -> Option<BandwidthInfo> {
    Some(BandwidthInfo {
        bandwidth_gran: number(&directory.join("bandwidth_gran"))?,
        delay_linear: number(&directory.join("delay_linear"))?,
        min_bandwidth: number(&directory.join("min_bandwidth"))?,
        num_closids: number(&directory.join("num_closids"))?,
    })
}

/// By domain, in the order of their numbers.
fn monitored(group: &Path) -> (Vec<Bandwidth>, Vec<Occupancy>) {
    let entries = std::fs::read_dir(group.join("mon_data")).into_iter().flatten().flatten();
    let mut domains: Vec<_> = entries.map(|entry| entry.path()).collect();
    domains.sort_unstable();
    let bandwidth = domains.iter().filter_map(|domain| {
        let mbm_total_bytes = number(&domain.join("mbm_total_bytes"))?;
        Some(Bandwidth { mbm_total_bytes, mbm_local_bytes: number(&domain.join("mbm_local_bytes"))? })
    });
    let occupancy =
        domains.iter().filter_map(|domain| Some(Occupancy { llc_occupancy: number(&domain.join("llc_occupancy"))? }));
    (bandwidth.collect(), occupancy.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Files as the kernel's documentation shows them (filesystems/resctrl.rst); few machines have the hardware.
    #[test]
    fn files_of_a_class() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n");
        write("info/L3/cbm_mask", "fffff\n");
        write("info/L3/min_cbm_bits", "1\n");
        write("info/L3/num_closids", "16\n");
        write("box/schemata", "    L3:0=00003;1=fffff\n    MB:0= 50;1=100\n");
        write("box/mon_groups/id/mon_data/mon_L3_00/llc_occupancy", "16384\n");
        write("box/mon_groups/id/mon_data/mon_L3_00/mbm_total_bytes", "7\n");
        write("box/mon_groups/id/mon_data/mon_L3_00/mbm_local_bytes", "Unavailable\n");
        let monitor = Some(root.join("box/mon_groups/id"));
        let class = Class { directory: root.join("box"), own: true, monitor };
        let json = serde_json::to_value(Figures::read(root, &class)).unwrap();
        let wanted = serde_json::json!({
            "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=fffff;1=fffff",
            "l3_cache_schema": "L3:0=00003;1=fffff",
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0= 50;1=100",
            "schemata": ["L3:0=00003;1=fffff", "MB:0= 50;1=100"],
            "cmt_stats": [{"llc_occupancy": 16384}],
        });
        assert_eq!(json, wanted);
        assert_eq!(serde_json::to_string(&Figures::default()).unwrap(), "{}");
    }
}
