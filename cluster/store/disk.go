package store

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"fairlead/cluster"
)

// A store's folder has a snapshot and a log of what came after it, of one
// generation: "snapshot.<n>" and "log.<n>". The next generation is in force from
// the moment that its snapshot has its name; what is older is removed then.
const (
	snapshotPrefix = "snapshot."
	logPrefix      = "log."
	freshSuffix    = ".new"
	asidePrefix    = "damaged." // what could not be used, for somebody to look at
	lockFile       = "lock"
)

// keptAside is how many damaged files are kept; the oldest go first.
const keptAside = 8

// defaultLeast is how long a log may become before there is another snapshot,
// however small that is, in bytes.
const defaultLeast = 4 << 20

// contents is what a store has on disk.
type contents struct {
	id      storeID
	items   map[string]*item
	equals  history
	last    cluster.Version // the greatest version that was given or seen
	seq     uint64          // the last that was given
	damaged bool            // something was lost: others have it
}

// disk writes a store's folder. It is for one goroutine.
type disk struct {
	folder folder
	log    *slog.Logger
	least  int64 // see defaultLeast

	generation uint64
	file       file  // the log, nil when there has to be another generation first
	size       int64 // of the log
	snapshot   int64 // size of the snapshot
	dirty      bool  // the log has something that may not be on the medium
}

// openDisk reads what is there. What is damaged is put aside, and what can be
// read of it is used; the caller then begins another generation.
func openDisk(f folder, log *slog.Logger) (*disk, *contents, error) {
	d := &disk{folder: f, log: log, least: defaultLeast}
	names, err := f.List()
	if err != nil {
		return nil, nil, err
	}
	snapshots, logs := generations(names, snapshotPrefix), generations(names, logPrefix)
	d.generation = max(highest(snapshots), highest(logs))
	c, from := newContents(), -1 // the last snapshot that is whole
	for i := len(snapshots) - 1; i >= 0 && from < 0; i-- {
		if whole := d.loadSnapshot(snapshots[i]); whole != nil {
			c, from = whole, i
		} else {
			c.damaged = true
		}
	}
	base := uint64(0)
	if from >= 0 {
		base = snapshots[from]
		c.damaged = from < len(snapshots)-1 || !slices.Contains(logs, base) // see begin: no snapshot is without its log
	}
	for _, g := range logs {
		if g < base {
			continue
		}
		size, whole := d.loadLog(c, g)
		c.damaged = c.damaged || !whole || g != base && size > 0
		d.size = size
	}
	if from < 0 || c.damaged || base != d.generation {
		return d, c, nil // the caller begins another generation
	}
	if d.file, err = f.Append(logName(base)); err != nil {
		return nil, nil, err
	}
	d.clean(names)
	return d, c, nil
}

func newContents() *contents {
	return &contents{id: newStoreID(), items: map[string]*item{}, equals: history{}}
}

func snapshotName(g uint64) string { return fmt.Sprintf("%s%010d", snapshotPrefix, g) }
func logName(g uint64) string      { return fmt.Sprintf("%s%010d", logPrefix, g) }

// generations are those that have a file, in order.
func generations(names []string, prefix string) (list []uint64) {
	for _, name := range names {
		if digits, ok := strings.CutPrefix(name, prefix); ok {
			if g, err := strconv.ParseUint(digits, 10, 63); err == nil {
				list = append(list, g)
			}
		}
	}
	slices.Sort(list)
	return list
}

func highest(list []uint64) uint64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1]
}

// loadSnapshot gives nil for one that is damaged: it is put aside.
func (d *disk) loadSnapshot(g uint64) *contents {
	c := newContents()
	data, err := d.folder.Read(snapshotName(g))
	if err == nil {
		err = c.readSnapshot(data)
	}
	if err != nil {
		d.putAside(snapshotName(g), err)
		return nil
	}
	d.snapshot = int64(len(data))
	return c
}

// readSnapshot wants all of it to be whole.
func (c *contents) readSnapshot(data []byte) error {
	for {
		what, body, rest, err := nextRecord(data)
		if err != nil {
			return err
		}
		data = rest
		if what == recordEnd {
			count := uint64(0)
			err := fields(body, func(f field) error {
				if f.number == endCount {
					count = f.value
				}
				return nil
			})
			if err != nil || count != uint64(len(c.items)) || len(data) != 0 {
				return errDamaged
			}
			return nil
		}
		if err := c.apply(what, body); err != nil {
			return err
		}
	}
}

// loadLog reads a log as far as it is whole. One that ends in the middle of a
// record ended so with the power, or is damaged: what was lost, others may know
// that this node had.
func (d *disk) loadLog(c *contents, g uint64) (size int64, whole bool) {
	data, err := d.folder.Read(logName(g))
	if err != nil {
		d.putAside(logName(g), err)
		return 0, false
	}
	for left := data; len(left) > 0; {
		what, body, rest, err := nextRecord(left)
		if err == nil {
			err = c.apply(what, body)
		}
		if err != nil {
			d.putAside(logName(g), fmt.Errorf("%w after %d of %d bytes", errDamaged, len(data)-len(left), len(data)))
			return int64(len(data)), false
		}
		left = rest
	}
	return int64(len(data)), true
}

// apply takes a record in.
func (c *contents) apply(what byte, body []byte) error {
	switch what {
	case recordMeta:
		return fields(body, func(f field) error {
			if f.number == metaStore {
				if len(f.bytes) != len(c.id) {
					return errDamaged
				}
				c.id = storeID(f.bytes)
			}
			return nil
		})
	case recordItem:
		it, err := readItemRecord(body)
		if err != nil {
			return err
		}
		c.seq = max(c.seq, it.seq)
		if it.newer(c.items[it.Key]) {
			c.items[it.Key] = it
		}
	case recordDrop:
		var key string
		var hash []byte
		if err := fields(body, func(f field) error {
			switch f.number {
			case dropKey:
				key = string(f.bytes)
			case dropHash:
				hash = f.bytes
			}
			return nil
		}); err != nil {
			return err
		}
		if it := c.items[key]; it != nil && string(hash) == string(it.hash[:]) {
			delete(c.items, key)
		}
	case recordPeer:
		node, e, err := readPeerRecord(body)
		if err != nil {
			return err
		}
		c.equals[node] = e
		c.seq = max(c.seq, e.seq)
	case recordClock:
		return fields(body, func(f field) error {
			switch f.number {
			case clockWall:
				c.last.Wall = protowire.DecodeZigZag(f.value)
			case clockCounter:
				c.last.Counter = uint32(f.value)
			}
			return nil
		})
	}
	return nil // of a newer software
}

// putAside moves a damaged file out of the way.
func (d *disk) putAside(name string, why error) {
	to := asidePrefix + name
	names, err := d.folder.List()
	if err == nil {
		for n := 1; slices.Contains(names, to); n++ {
			to = asidePrefix + name + "." + strconv.Itoa(n)
		}
		var there []string
		for _, n := range names {
			if strings.HasPrefix(n, asidePrefix) {
				there = append(there, n)
			}
		}
		slices.Sort(there)
		for len(there) >= keptAside {
			err = errors.Join(err, d.folder.Remove(there[0]))
			there = there[1:]
		}
		err = errors.Join(err, d.folder.Rename(name, to), d.folder.Sync())
	}
	if err != nil {
		d.log.Error("a file of the shared state is damaged, and could not be put aside: what it had is taken from other nodes", "file", name, "error", why, "aside", err)
		return
	}
	d.log.Error("a file of the shared state is damaged: what it had is taken from other nodes", "file", name, "error", why, "aside", to)
}

// clean removes what is of no use any more.
func (d *disk) clean(names []string) {
	for _, name := range names {
		old := strings.HasSuffix(name, freshSuffix)
		for _, prefix := range []string{snapshotPrefix, logPrefix} {
			if digits, ok := strings.CutPrefix(name, prefix); ok {
				g, err := strconv.ParseUint(digits, 10, 63)
				old = old || err == nil && g < d.generation
			}
		}
		if old {
			if err := d.folder.Remove(name); err != nil {
				d.log.Warn("an old file of the shared state could not be removed", "file", name, "error", err)
			}
		}
	}
}

// append adds records to the log. On an error none of them is there.
func (d *disk) append(records []byte) error {
	if len(records) == 0 {
		return nil
	}
	if d.file == nil {
		return errNoLog
	}
	if _, err := d.file.Write(records); err != nil {
		if d.file.Truncate(d.size) != nil {
			d.leave()
		}
		return err
	}
	d.size += int64(len(records))
	d.dirty = true
	return nil
}

var errNoLog = errors.New("there is no file to write to")

// sync returns when all that was appended is on the medium. After an error
// nobody knows what is, so that there has to be another generation.
func (d *disk) sync() error {
	if !d.dirty {
		return nil
	}
	if d.file == nil {
		return errNoLog
	}
	if err := d.file.Sync(); err != nil {
		d.leave()
		return err
	}
	d.dirty = false
	return nil
}

// leave writes no more to this generation's log.
func (d *disk) leave() {
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
}

// full reports whether there should be another generation.
func (d *disk) full() bool { return d.size > max(d.least, 2*d.snapshot) }

// begin puts everything into another generation. Its log is there before its
// snapshot. On an error the one before goes on, if it could.
func (d *disk) begin(c *contents, items func(func(*item))) error {
	g := d.generation + 1
	fresh := snapshotName(g) + freshSuffix
	size, err := d.writeSnapshot(fresh, c, items)
	if err != nil {
		return errors.Join(err, d.discard(fresh))
	}
	log, err := d.folder.Create(logName(g))
	if err != nil {
		return errors.Join(err, d.discard(fresh))
	}
	if err := log.Sync(); err != nil {
		return errors.Join(err, log.Close(), d.discard(fresh, logName(g)))
	}
	if err := d.folder.Rename(fresh, snapshotName(g)); err != nil {
		return errors.Join(err, log.Close(), d.discard(fresh, logName(g)))
	}
	d.leave()
	d.generation, d.file, d.size, d.snapshot, d.dirty = g, log, 0, size, false
	if err := d.folder.Sync(); err != nil {
		d.leave() // the name may be lost with the power: write nothing there
		return err
	}
	names, err := d.folder.List()
	if err != nil {
		return nil // what is old is removed another time
	}
	d.clean(names)
	return nil
}

func (d *disk) discard(names ...string) error {
	var errs []error
	for _, name := range names {
		if err := d.folder.Remove(name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeSnapshot writes in pieces, so that it takes little memory.
func (d *disk) writeSnapshot(name string, c *contents, items func(func(*item))) (size int64, err error) {
	f, err := d.folder.Create(name)
	if err != nil {
		return 0, err
	}
	var b []byte
	flush := func(least int) {
		if err == nil && len(b) >= least {
			_, err = f.Write(b)
			size += int64(len(b))
			b = b[:0]
		}
	}
	b = appendRecord(b, recordMeta, func(b []byte) []byte { return appendBytes(b, metaStore, c.id[:]) })
	b = appendRecord(b, recordClock, func(b []byte) []byte {
		return appendUint(appendUint(b, clockWall, protowire.EncodeZigZag(c.last.Wall)), clockCounter, uint64(c.last.Counter))
	})
	for node, e := range c.equals {
		b = appendPeerRecord(b, node, e)
	}
	count := uint64(0)
	items(func(it *item) {
		b = appendItemRecord(b, it)
		count++
		flush(1 << 20)
	})
	b = appendRecord(b, recordEnd, func(b []byte) []byte { return appendUint(b, endCount, count) })
	flush(0)
	if err == nil {
		err = f.Sync()
	}
	return size, errors.Join(err, f.Close())
}

func (d *disk) close() error {
	err := d.sync()
	d.leave()
	return errors.Join(err, d.folder.Close())
}
