"""A small text of every format, of the same cluster where it tells one: n1, n2 on left, n3 on right, both on spine."""

SCONTROL = """\
SwitchName=left Level=0 LinkSpeed=1 Nodes=n[1-2]
SwitchName=right Level=0 LinkSpeed=1 Nodes=n3
SwitchName=spine Level=1 LinkSpeed=1 Nodes=n[1-3] Switches=left,right
"""
CONF = """\
# a comment
SwitchName=left Nodes=n1,\\
n2   # the first rack
switchname=right nodes=n3
SwitchName=spine Switches=left,right
"""
CONF_BLOCKS = """\
BlockName=b1 Nodes=n[1-2]
BlockName=b2 Nodes=n[3-4]
BlockSizes=2,4
"""
SCONTROL_BLOCKS = """\
BlockName=b1 BlockIndex=0 Nodes=n[1-2] BlockSize=2
BlockName=b2 BlockIndex=1 Nodes=n[3-4] BlockSize=2
AggregatedBlock=b[1-2] BlockIndex=2 Nodes=n[1-4] BlockSize=4
"""
YAML = """\
---
- topology: other
  flat: true
- topology: main
  cluster_default: true
  tree:
    switches:
      - switch: spine
        children: left,right
      - switch: left
        nodes: n[1-2]
      - switch: right
        nodes: n3
"""
YAML_BLOCKS = """\
- topology: racks
  cluster_default: true
  block:
    block_sizes: [2, 4]
    blocks:
      - block: b1
        nodes: n[1-2]
      - block: b2
        nodes: n[3-4]
"""
ADDRESSES = """\
n1 spine.left.n1 switch.switch.node
n2 spine.left.n2 switch.switch.node
n3 spine.right.n3 switch.switch.node
"""
PLAIN = """\
switches:
  left: n[1-2]
  right: [n3]
  spine: [left, right]
uplink_gbs: {left: 40, right: 20}
"""
JSON = '{"switches": {"left": ["n[1-2]"], "right": ["n3"], "spine": ["left", "right"]}, "rails": 2}'
TOPOGRAPH = """\
switches:
  spine:
    labels: {zone: z1}
    switches: [left, right]
blocks:
- switch: left
  nodes: ["n[1-2]"]
  annotations: {accelerator.topology.test/domain: nvl1}
- switch: right
  nodes: [n3]
  annotations: {accelerator.topology.test/domain: nvl2}
"""
SMI = """\
\tGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity
GPU0\t X \tNV4\tNV4\tNV4\tPIX\tSYS\t0-15\t0
GPU1\tNV4\t X \tNV4\tNV4\tPIX\tSYS\t0-15\t0
GPU2\tNV4\tNV4\t X \tNV4\tSYS\tPXB\t16-31\t1
GPU3\tNV4\tNV4\tNV4\t X \tSYS\tPXB\t16-31\t1
NIC0\tPIX\tPIX\tSYS\tSYS\t X \tSYS
NIC1\tSYS\tSYS\tPXB\tPXB\tSYS\t X

Legend:

  X    = Self

NIC Legend:

  NIC0: mlx5_0
  NIC1: mlx5_3
"""
NCCL = """\
<system version="1">
  <cpu numaid="0" affinity="ffff" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143">
    <pci busid="0000:15:00.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
      <pci busid="0000:18:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16">
        <gpu dev="0" sm="90" rank="0" gdr="1">
          <nvlink target="0000:07:00.0" count="9" tclass="0x068000"/>
          <nvlink target="0000:08:00.0" count="9" tclass="0x068000"/>
        </gpu>
      </pci>
      <pci busid="0000:19:00.0" class="0x020700" link_speed="32.0 GT/s PCIe" link_width="16">
        <nic><net name="mlx5_0" dev="0" speed="400000" port="1"/></nic>
      </pci>
    </pci>
  </cpu>
  <cpu numaid="1">
    <pci busid="0000:95:00.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
      <pci busid="0000:98:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16">
        <gpu dev="1" sm="90" rank="1" gdr="1"><nvlink target="0000:07:00.0" count="18" tclass="0x068000"/></gpu>
      </pci>
      <pci busid="0000:99:00.0" class="0x020000" link_speed="32.0 GT/s PCIe" link_width="16">
        <nic><net name="mlx5_1" dev="1" speed="400000" port="1"/></nic>
      </pci>
    </pci>
  </cpu>
</system>
"""


def ibnetdiscover(units: int = 2, hosts: int = 4, rails: int = 2, speed: str = "4xNDR") -> str:
    """A rail-optimised fat tree: a leaf switch a rail in each unit, two spines over all, two cables from each leaf."""
    out = ["#", "# Topology file: generated", "#", ""]
    for unit in range(units):
        for rail in range(rails):
            leaf = f"S-{unit:02x}{rail:02x}"
            out += [
                "vendid=0x2c9",
                f'Switch\t65 "{leaf}"\t\t# "MF0;leaf-{unit}-{rail}:MQM/U1" enhanced port 0 lid 7 lmc 0',
            ]
            out += [
                f'[{host + 1}]\t"H-{unit:02x}{host:02x}{rail:02x}"[1](e0) \t\t'
                f'# "n{unit}-{host} mlx5_{rail}" lid 6 {speed}'
                for host in range(hosts)
            ]
            out += [
                f'[{33 + 2 * spine + cable}]\t"S-ff{spine:02x}"[{1 + 4 * unit + 2 * rail + cable}]\t\t'
                f'# "spine-{spine}" lid 3 {speed}'
                for spine in range(2)
                for cable in range(2)
            ]
            out += [
                f'[65]\t"H-aa{unit:02x}{rail:02x}"[1](e1) \t\t# "Mellanox Technologies Aggregation Node" lid 1 {speed}',
                "",
            ]
    for unit in range(units):
        for host in range(hosts):
            for rail in range(rails):
                out += [
                    "caguid=0xe0",
                    f'Ca\t1 "H-{unit:02x}{host:02x}{rail:02x}"\t\t# "n{unit}-{host} mlx5_{rail}"',
                    f'[1](e0) \t"S-{unit:02x}{rail:02x}"[{host + 1}]\t\t'
                    f'# lid 6 lmc 0 "MF0;leaf-{unit}-{rail}" lid 7 {speed}',
                    "",
                ]
    return "\n".join(out)


ALL = {
    "scontrol": SCONTROL,
    "conf": CONF,
    "conf_blocks": CONF_BLOCKS,
    "scontrol_blocks": SCONTROL_BLOCKS,
    "yaml": YAML,
    "yaml_blocks": YAML_BLOCKS,
    "addresses": ADDRESSES,
    "plain": PLAIN,
    "json": JSON,
    "topograph": TOPOGRAPH,
    "nvidia_smi": SMI,
    "nccl": NCCL,
    "ibnetdiscover": ibnetdiscover(),
}
