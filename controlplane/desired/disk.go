package desired

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"

	"fairlead/controlplane/model"
)

// The folders of the state directory. A version is in force on disk from the
// moment that its file has its name; declarations that it refers to are there
// before, and are named after their content.
const (
	versionsDir     = "versions"
	declarationsDir = "declarations"
	asideDir        = "aside" // what could not be used, for somebody to look at
)

// keptVersions is how many versions are kept besides the one in force.
const keptVersions = 10

// keptAside is how many files may lie aside; the oldest names go first.
const keptAside = 100

// errForeign says that somebody else writes to the same directory.
var errForeign = errors.New("another process has written to the state directory")

// disk is the state directory.
type disk struct {
	fs    fileSystem
	ready bool            // its folders are there
	have  map[string]bool // declarations that are stored, by file name
}

func newDisk(files fileSystem) *disk { return &disk{fs: files, have: map[string]bool{}} }

func versionFile(number uint64) string { return fmt.Sprintf("%010d", number) }

func (r Ref) file() string {
	if r.Text {
		return r.Digest + ".toml"
	}
	return r.Digest + ".json"
}

func (d *disk) prepare() error {
	if d.ready {
		return nil
	}
	for _, dir := range []string{versionsDir, declarationsDir, asideDir} {
		if err := d.fs.MakeDir(dir); err != nil {
			return err
		}
	}
	d.ready = true
	return nil
}

// put stores a file: it has its whole content as soon as it has its name, and
// it has its name on the medium when put returns.
func (d *disk) put(dir, name string, data []byte) error {
	fresh := dir + "/." + name + ".new"
	if err := d.fs.Write(fresh, data); err != nil {
		d.fs.Remove(fresh) // it may not be there
		return err
	}
	if err := d.fs.Rename(fresh, dir+"/"+name); err != nil {
		d.fs.Remove(fresh)
		return err
	}
	return d.fs.SyncDir(dir)
}

// commit stores a version and the declarations it refers to. On an error the
// version may be there or not: revoke it.
func (d *disk) commit(v *Version, declarations map[string]*Declaration, fresh bool) error {
	if err := d.prepare(); err != nil {
		return err
	}
	there, err := d.fs.List(declarationsDir)
	if err != nil {
		return err
	}
	for _, decl := range declarations {
		name := decl.ref().file()
		if d.have[name] && slices.Contains(there, name) {
			continue
		}
		if err := d.put(declarationsDir, name, decl.content()); err != nil {
			return err
		}
		d.have[name] = true
	}
	data, err := encodeVersion(v)
	if err != nil {
		return err
	}
	name := versionFile(v.Number)
	if fresh {
		if _, err := d.fs.Read(versionsDir + "/" + name); err == nil {
			return fmt.Errorf("%w: there is a version %d that is not ours", errForeign, v.Number)
		}
	}
	return d.put(versionsDir, name, data)
}

// highest is the highest number of a version that is there, 0 when there is none
// or it cannot be found out.
func (d *disk) highest() (number uint64) {
	names, err := d.fs.List(versionsDir)
	if err != nil {
		return 0
	}
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 10, 64); err == nil && versionFile(n) == name {
			number = max(number, n)
		}
	}
	return number
}

// revoke takes a version back that did not come into force.
func (d *disk) revoke(number uint64) error {
	err := d.fs.Remove(versionsDir + "/" + versionFile(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, d.fs.SyncDir(versionsDir))
}

// prune removes all versions but those that are kept, and the declarations that
// none of them refers to.
func (d *disk) prune(drop []uint64, keep []*Version) error {
	var errs []error
	for _, number := range drop {
		if err := d.fs.Remove(versionsDir + "/" + versionFile(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	used := usedBy(keep)
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(d.have)) {
		if !used[name] {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 && len(drop) > 0 { // a version goes before what it refers to
		errs = append(errs, d.fs.SyncDir(versionsDir))
	}
	for _, name := range gone {
		if err := d.fs.Remove(declarationsDir + "/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(d.have, name)
	}
	return errors.Join(errs...)
}

// setAside moves a file out of the way. It says where to.
func (d *disk) setAside(dir, name string) (string, error) {
	if err := d.prepare(); err != nil {
		return "", err
	}
	there, err := d.fs.List(asideDir)
	if err != nil {
		return "", err
	}
	for n := len(there) - keptAside; n >= 0; n-- {
		if err := d.fs.Remove(asideDir + "/" + there[n]); err != nil {
			return "", err
		}
	}
	to := name
	for n := 1; slices.Contains(there, to); n++ {
		to = name + "." + strconv.Itoa(n)
	}
	if err := d.fs.Rename(dir+"/"+name, asideDir+"/"+to); err != nil {
		return "", err
	}
	return asideDir + "/" + to, errors.Join(d.fs.SyncDir(asideDir), d.fs.SyncDir(dir))
}

// declaration reads what a version refers to.
func (d *disk) declaration(source string, r Ref, parse Parser) (*Declaration, error) {
	data, err := d.fs.Read(declarationsDir + "/" + r.file())
	if err != nil {
		return nil, err
	}
	if digestOf(data) != r.Digest {
		return nil, &damagedError{declarationsDir, r.file(), errors.New("its checksum is wrong")}
	}
	decl := &Declaration{Source: source, Name: r.Name, digest: r.Digest}
	if r.Text {
		read, err := parse(source, r.Name, data)
		if err != nil {
			return nil, &unreadError{source, err}
		}
		decl.Text, decl.State, decl.Document = data, read.State, read.Document
		return decl, nil
	}
	decl.json, decl.State = data, &model.State{}
	if err := json.Unmarshal(data, decl.State); err != nil {
		return nil, fmt.Errorf("the declaration of source %q: %w", source, err)
	}
	return decl, nil
}

// unreadError says that a text is whole and not understood.
type unreadError struct {
	source string
	why    error
}

func (e *unreadError) Error() string {
	return fmt.Sprintf("the declaration of source %q is not understood: %v", e.source, e.why)
}
func (e *unreadError) Unwrap() error { return e.why }

// damagedError says that a file is not what was written.
type damagedError struct {
	dir, name string
	why       error
}

func (e *damagedError) Error() string { return e.dir + "/" + e.name + ": " + e.why.Error() }
func (e *damagedError) Unwrap() error { return e.why }
