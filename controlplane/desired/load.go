package desired

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// loaded is what a state directory holds.
type loaded struct {
	versions []*Version // that can be read, oldest first
	highest  uint64     // number that was ever seen
	notes    []string   // what could not be used, and what became of it
}

// load reads the versions of the directory, which need not be there. A damaged
// one, and one that a newer release wrote, is set aside; what cannot be read at
// all is left where it is.
func (d *disk) load() (*loaded, error) {
	names, err := d.fs.List(versionsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l := &loaded{}
	for _, name := range names {
		number, err := strconv.ParseUint(name, 10, 64)
		if err != nil || versionFile(number) != name {
			continue
		}
		l.highest = max(l.highest, number)
		data, err := d.fs.Read(versionsDir + "/" + name)
		if err != nil {
			l.note("version %d cannot be read and is left out: %v", number, err)
			continue
		}
		v, err := decodeVersion(number, data)
		if err != nil {
			l.remove(d, number, err)
			continue
		}
		l.versions = append(l.versions, v)
	}
	slices.SortFunc(l.versions, func(a, b *Version) int { return int(int64(a.Number) - int64(b.Number)) })
	return l, nil
}

func (l *loaded) note(format string, args ...any) {
	l.notes = append(l.notes, fmt.Sprintf(format, args...))
}

// remove sets a version aside that cannot be used.
func (l *loaded) remove(d *disk, number uint64, why error) {
	to, err := d.setAside(versionsDir, versionFile(number))
	if err != nil {
		l.note("version %d is unusable (%v) and cannot be set aside: %v", number, why, err)
		return
	}
	l.note("version %d is unusable (%v); its file is now %s", number, why, to)
}

// latest finds the newest version that can be used, and drops those from the
// list that cannot. It is nil when there is none.
func (l *loaded) latest(d *disk, parse Parser) *whole {
	for n := len(l.versions) - 1; n >= 0; n-- {
		v := l.versions[n]
		w, err := d.whole(v, parse)
		if err == nil && !w.fileless() {
			err = w.validate()
		}
		if err == nil {
			if w.fileless() {
				l.note("version %d has a configuration file that this release does not understand; what other sources declared is used", v.Number)
			}
			return w
		}
		l.versions = slices.Delete(l.versions, n, n+1)
		var damaged *damagedError
		switch {
		case errors.As(err, &damaged):
			if _, err := d.setAside(damaged.dir, damaged.name); err != nil {
				l.note("%v, and cannot be set aside: %v", damaged, err)
			}
			l.remove(d, v.Number, err)
		case errors.Is(err, fs.ErrNotExist):
			l.remove(d, v.Number, err)
		default:
			l.note("version %d cannot be used and is left out: %v", v.Number, err)
		}
	}
	return nil
}

// whole reads all declarations of a version. That of the file is left out when
// it is not understood: after an upgrade the file on disk may have been changed
// to what the release wants, and what else was declared must not be lost.
func (d *disk) whole(v *Version, parse Parser) (*whole, error) {
	w := &whole{version: v, declarations: make(map[string]*Declaration, len(v.Sources))}
	for source, ref := range v.Sources {
		decl, err := d.declaration(source, ref, parse)
		if unread := (*unreadError)(nil); errors.As(err, &unread) && source == SourceFile {
			continue
		}
		if err != nil {
			return nil, err
		}
		w.declarations[source] = decl
	}
	w.merge()
	return w, nil
}

// known notes which declarations of the versions are stored.
func (d *disk) known(versions []*Version) error {
	names, err := d.fs.List(declarationsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	used := usedBy(versions)
	for _, name := range names {
		if used[name] {
			d.have[name] = true
		}
	}
	return nil
}

// usedBy are the files of the declarations that versions refer to.
func usedBy(versions []*Version) map[string]bool {
	used := map[string]bool{}
	for _, v := range versions {
		for _, r := range v.refs() {
			used[r.file()] = true
		}
	}
	return used
}

// sweep removes what a process that died was about to write and, if orphans may
// go, the declarations that no version refers to. Nobody else may be writing.
func (d *disk) sweep(versions []*Version, orphans bool) error {
	var errs []error
	used := usedBy(versions)
	for _, dir := range []string{versionsDir, declarationsDir} {
		names, err := d.fs.List(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, name := range names {
			leftover := strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".new")
			if leftover || orphans && dir == declarationsDir && !used[name] {
				errs = append(errs, d.fs.Remove(dir+"/"+name))
			}
		}
	}
	return errors.Join(errs...)
}
