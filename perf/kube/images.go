package kube

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
)

// Images of the lab itself; both are perf/kube/pod.
const (
	// ServerImage answers the clients of perf/lab/traffic with its pod's name (the
	// variable POD_NAME, or the host name): HTTP on 8080, UDP on 8053, streams on
	// 8007. Its readiness is asked at /healthz on the port of HTTP; a request for
	// /unready or /ready changes it. After SIGTERM it goes on until nobody has come,
	// by HTTP or for a stream, for the duration -linger; then it takes no more
	// connections and ends when those it has do.
	ServerImage = "lab/server"
	// PauseImage waits for SIGTERM.
	PauseImage = "registry.k8s.io/pause"
)

// Image is a program of this machine that takes the place of an image.
type Image struct {
	// Path is the program's; empty: that of the lab's own images. A container's command that begins with the program's
	// name is this program, too; any other is one of this machine's.
	Path string
	// Entrypoint are the program's first arguments, and Arguments those that
	// follow when the container says nothing.
	Entrypoint, Arguments []string
	// Root is the file system of the image's containers, in which Path is then; nil:
	// that of this machine, with all rights, and no volumes.
	Root *Root
}

// Root is the file system of an image. Its containers have the volumes that their
// pods ask for, and the rights that they ask for and no more (perf/kube/runtime).
type Root struct {
	// Programs are files of this machine by where they are in the image; Files are
	// small ones, with their text.
	Programs, Files map[string]string
	Directories     []string
	Environment     []string // of every process, as NAME=value
	User, Group     uint32   // of processes of which nothing else is said
}

// buildPod compiles the program of the lab's own images into a folder.
func buildPod(dir string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pod")
	build := exec.Command("go", "build", "-o", path, "./perf/kube/pod")
	build.Dir = root
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build perf/kube/pod: %w\n%s", err, out)
	}
	return path, nil
}

// images are those that a cluster has, by name without tag and digest.
type images map[string]Image

func (all images) find(name string) (Image, error) {
	if image, ok := all[name]; ok {
		return image, nil
	}
	bare, _, _ := strings.Cut(name, "@")
	if i := strings.LastIndexByte(bare, ':'); i > strings.LastIndexByte(bare, '/') {
		bare = bare[:i]
	}
	if image, ok := all[bare]; ok {
		return image, nil
	}
	return Image{}, fmt.Errorf("the lab has no image %q", name)
}

// command is what a container runs. Variables have been put into its arguments.
func (i Image) command(c *core.Container, expand func(string) string) []string {
	var command, args []string
	for _, s := range c.Command {
		command = append(command, expand(s))
	}
	for _, s := range c.Args {
		args = append(args, expand(s))
	}
	switch {
	case len(command) == 0:
		command = append([]string{i.Path}, i.Entrypoint...)
		if len(args) == 0 {
			args = i.Arguments
		}
	case filepath.Base(command[0]) == filepath.Base(i.Path):
		command[0] = i.Path
	}
	return append(command, args...)
}
