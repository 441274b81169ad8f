package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// view is what a process of a container sees of itself and around it.
type view struct {
	PID, User, Group int
	Groups           []int
	Hostname         string
	// Status are the lines of /proc/self/status about rights: CapBnd and so on.
	Status map[string]string
	Paths  map[string]place
}

// place is what is at a path.
type place struct {
	Error    string   `json:",omitempty"`
	Mode     string   `json:",omitempty"`
	Text     string   `json:",omitempty"` // of a file
	Names    []string `json:",omitempty"` // in a directory
	Writable bool     // the directory takes a file, or the file can be opened for writing
}

// look prints what it sees.
func look(paths []string) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	v := view{PID: os.Getpid(), User: os.Getuid(), Group: os.Getgid(), Groups: groups, Hostname: hostname, Status: map[string]string{}, Paths: map[string]place{}}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(name, "Cap") || name == "NoNewPrivs" {
			v.Status[name] = strings.TrimSpace(value)
		}
	}
	for _, path := range paths {
		v.Paths[path] = lookAt(path)
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}

func lookAt(path string) place {
	info, err := os.Stat(path)
	if err != nil {
		return place{Error: reason(err)}
	}
	p := place{Mode: info.Mode().String()}
	if !info.IsDir() {
		text, err := os.ReadFile(path)
		p.Text, p.Error = string(text), reason(err)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if p.Writable = err == nil; p.Writable {
			f.Close()
		}
		return p
	}
	entries, err := os.ReadDir(path)
	p.Error = reason(err)
	for _, e := range entries {
		p.Names = append(p.Names, e.Name())
	}
	probe := filepath.Join(path, "look-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(probe, 0o700); err == nil {
		p.Writable = os.Remove(probe) == nil
	}
	return p
}

// reason is an error without the path that it is about.
func reason(err error) string {
	var number unix.Errno
	switch {
	case err == nil:
		return ""
	case errors.As(err, &number):
		return number.Error()
	}
	return err.Error()
}
