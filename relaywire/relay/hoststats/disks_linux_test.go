package hoststats

import (
	"reflect"
	"testing"
)

func TestParseMounts(t *testing.T) {
	const table = `22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
23 22 0:21 / /proc rw,nosuid shared:2 - proc proc rw
24 22 0:30 /home /home rw,relatime - btrfs /dev/sda3 rw,subvol=/home
25 22 8:17 / /mnt/my\040disk\134x rw - vfat /dev/sdb1 rw
26 22 0:40 / /tank rw - zfs tank rw
27 22 0:41 / /srv rw - nfs4 nas:/srv rw
x y
28 22 8:33 / /odd\9 rw master:1 propagate_from:2 - ext4 none
`
	const kinds = "nodev\tproc\nnodev\tnfs4\n\text4\n\tvfat\n\tbtrfs\nnodev\ttmpfs\n"
	want := []mountEntry{
		{mount{path: "/", fstype: "ext4", store: "8:2"}, 22}, {mount{path: "/home", fstype: "btrfs", store: "0:30"}, 24},
		{mount{path: `/mnt/my disk\x`, fstype: "vfat", store: "8:17"}, 25}, {mount{path: "/tank", fstype: "zfs", store: "0:40"}, 26},
		{mount{path: `/odd\9`, fstype: "ext4", store: "8:33"}, 28},
	}
	if got := parseMounts([]byte(table), parseFilesystems([]byte(kinds))); !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v\nwant %+v", got, want)
	}
}

// TestRootOfThisMachine checks that a path's space and its mount have the same device.
func TestRootOfThisMachine(t *testing.T) {
	device, _, err := mountedAt("/")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := systemSpace("/"); err != nil || s.device != device || s.total == 0 || s.used+s.free > s.total {
		t.Errorf("%+v, %v, want device %d", s, err, device)
	}
	mounts, err := systemMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if s, err := systemSpace(m.path); err == nil && s.device != m.device {
			t.Errorf("%s: device %d by its space, %d by its mount", m.path, s.device, m.device)
		}
	}
}
