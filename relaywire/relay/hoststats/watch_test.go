package hoststats

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shirou/gopsutil/v4/mem"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// offered holds a relay's collectors.
type offered struct {
	have map[string]string // the tags by the name
	said []string          // what changed
}

func (o *offered) AddCollector(name string, tags []string, c relay.Collector) error {
	if _, ok := o.have[name]; ok {
		return relay.ErrDuplicate
	}
	o.have[name] = strings.Join(tags, ",")
	o.said = append(o.said, strings.TrimSpace(fmt.Sprintf("+%s %s", name, o.have[name])))
	return nil
}

func (o *offered) RemoveCollector(name string) {
	delete(o.have, name)
	o.said = append(o.said, "-"+name)
}

// TestWatch: a device that appears is added within half a minute, and a device that vanishes is
// removed.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		o := &offered{have: map[string]string{}}
		w, err := source.Watch(o, []string{"rack:7"}, &Source{h: m.host()})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, want := range []string{"+cpu rack:7", "+disk_root rack:7,mount:/", "+net_eth0 rack:7,interface:eth0"} {
			if !slices.Contains(o.said, want) {
				t.Errorf("at first: %q, without %q", o.said, want)
			}
		}
		change := func(what string, do func(), want ...string) {
			t.Helper()
			o.said = nil
			m.mu.Lock()
			do()
			m.mu.Unlock()
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if !slices.Equal(o.said, want) {
				t.Errorf("%s: %q, want %q", what, o.said, want)
			}
		}
		change("nothing", func() {})
		eth0 := m.interfaces[1]
		change("an interface is gone", func() { m.interfaces = slices.Delete(m.interfaces, 1, 2) }, "-net_eth0")
		change("nothing can be read", func() { m.err = errors.New("too many open files") })
		change("it can again", func() { m.err = nil })
		change("the interface is back", func() { m.interfaces = append(m.interfaces, eth0) }, "+net_eth0 rack:7,interface:eth0")
		change("an interface is renamed", func() { m.interfaces[len(m.interfaces)-1].name = "lan0" }, "-net_eth0", "+net_lan0 rack:7,interface:lan0")
		change("a disk is unmounted", func() {
			m.mounts = slices.DeleteFunc(m.mounts, func(m mount) bool { return m.path == "/var/lib-a" })
			m.space["/var/lib-a"] = m.space["/"]
		}, "-disk_var_lib_a", "-disk_var_lib_a_2", "+disk_var_lib_a rack:7,mount:/var/lib_a")
		change("a disk is mounted", func() {
			m.mounts = append(m.mounts, mount{"/mnt", "ext4", 20, "sdx1"})
			m.space["/mnt"] = space{20, 10, 1, 9}
		}, "+disk_mnt rack:7,mount:/mnt")
		change("another disk takes its place", func() {
			m.mounts[len(m.mounts)-1] = mount{"/mnt", "ext4", 21, "sdy1"}
			m.space["/mnt"] = space{21, 20, 1, 9}
		}, "-disk_mnt", "+disk_mnt rack:7,mount:/mnt")
		change("a disk is used for the first time", func() { m.devices[2].reads = 1 }, "+io_sdb rack:7,device:sdb")
		change("another disk has its name", func() { m.devices[2].number++ }, "-io_sdb", "+io_sdb rack:7,device:sdb")
		change("the container gets a quota", func() { m.limits.processors = 2 }, "-cpu", "+cpu rack:7")
		change("swap is turned off", func() { m.swap = mem.SwapMemoryStat{} }, "-swap")
		change("swap is turned on", func() { m.swap = mem.SwapMemoryStat{Total: 10, Free: 10} }, "+swap rack:7")
		// The program's own collector keeps its name for as long as it exists.
		o.have["net_mine"] = "of the program"
		change("a name that is taken", func() { m.interfaces = append(m.interfaces, iface{"mine", 30, false, 0, 0}) })
		change("it is free", func() { delete(o.have, "net_mine") }, "+net_mine rack:7,interface:mine")
	})
}

// TestWatchOfAHangingDisk: a file system that does not answer does not keep Close from returning.
func TestWatchOfAHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		h := m.host()
		hang, looking := make(chan struct{}), make(chan struct{}, 100)
		quick := h.space
		var hanging atomic.Bool
		h.space = func(path string) (space, error) {
			if hanging.Load() {
				looking <- struct{}{}
				<-hang
			}
			return quick(path)
		}
		w, err := source.Watch(&offered{have: map[string]string{}}, nil, &Source{h: h})
		if err != nil {
			t.Fatal(err)
		}
		hanging.Store(true)
		<-looking
		w.Close()
		close(hang)
	})
}

func TestWatchRefused(t *testing.T) {
	o := &offered{have: map[string]string{"cpu": ""}}
	if _, err := source.Watch(o, nil, &Source{h: newMachine().host()}); !errors.Is(err, relay.ErrDuplicate) {
		t.Errorf("a name that is taken from the start: %v", err)
	}
}
