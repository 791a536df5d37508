//! The hypervisor of a virtual machine.

use procfs::CpuInfo;

use super::line;

/// Names by the signature that the CPUID instruction returns in a virtual machine.
const SIGNATURES: [(&str, &str); 10] = [
    ("KVMKVMKVM", "KVM"),
    ("Linux KVM Hv", "KVM"),
    ("TCGTCGTCGTCG", "QEMU"),
    ("VMwareVMware", "VMware"),
    ("Microsoft Hv", "Hyper-V"),
    ("XenVMMXenVMM", "Xen"),
    ("bhyve bhyve", "bhyve"),
    ("VBoxVBoxVBox", "VirtualBox"),
    ("ACRNACRNACRN", "ACRN"),
    ("prl hyperv", "Parallels"),
];

/// Names by the machine's maker or product, as the firmware states it.
const MAKERS: [(&str, &str); 9] = [
    ("Amazon EC2", "Amazon EC2"),
    ("Google Compute", "Google Compute Engine"),
    ("KVM", "KVM"),
    ("QEMU", "QEMU"),
    ("VMware", "VMware"),
    ("VirtualBox", "VirtualBox"),
    ("Microsoft Corporation", "Hyper-V"),
    ("Xen", "Xen"),
    ("Parallels", "Parallels"),
];

/// Returns the hypervisor's name; `None` if no hypervisor is found.
pub fn name(cpuinfo: Option<&CpuInfo>) -> Option<String> {
    let flagged = cpuinfo
        .and_then(|info| info.get_field(0, "flags"))
        .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let virtual_kind = line("/sys/hypervisor/type");
    if !flagged && virtual_kind.is_none() {
        // The firmware of some physical machines contains the names of hypervisors' makers.
        return None;
    }
    named(&signature(), &SIGNATURES)
        .or_else(firmware_name)
        .or(virtual_kind)
        .or_else(|| flagged.then(|| "unknown".to_owned()))
}

fn firmware_name() -> Option<String> {
    ["sys_vendor", "product_name", "bios_vendor", "board_vendor"]
        .iter()
        .filter_map(|field| line(&format!("/sys/class/dmi/id/{field}")))
        .find_map(|text| named(&text, &MAKERS))
}

fn named(text: &str, names: &[(&str, &str)]) -> Option<String> {
    names.iter().find(|(part, _)| text.contains(part)).map(|(_, name)| (*name).to_owned())
}

/// Returns the hypervisor's signature, from CPUID leaf 0x4000_0000.
fn signature() -> String {
    #[allow(unused_unsafe, reason = "it is safe in later versions of the standard library")]
    // SAFETY: every x86-64 processor has the CPUID instruction.
    let leaf = unsafe { std::arch::x86_64::__cpuid(0x4000_0000) };
    let bytes: Vec<u8> =
        [leaf.ebx, leaf.ecx, leaf.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_signatures_and_firmware_texts() {
        assert_eq!(named("KVMKVMKVM\0\0\0", &SIGNATURES).as_deref(), Some("KVM"));
        assert_eq!(named("VMware, Inc.", &MAKERS).as_deref(), Some("VMware"));
        assert_eq!(named("Dell Inc.", &MAKERS), None);
    }
}
