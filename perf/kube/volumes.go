package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// volume is one volume of a pod: a file or directory of this machine.
type volume struct {
	path     string
	readOnly bool // whatever a container says
}

// path is that of something of the pod's on this machine.
func (w *worker) path(names ...string) string {
	return filepath.Join(append([]string{w.kubelet.node.cluster.path("pods"), string(w.uid)}, names...)...)
}

// makeVolumes makes the pod's volumes. What they are made of may not be there yet.
func (w *worker) makeVolumes(ctx context.Context, pod *core.Pod) (map[string]volume, error) {
	all := map[string]volume{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		made, err := w.makeVolume(ctx, pod, v)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		all[v.Name] = made
	}
	return all, nil
}

func (w *worker) makeVolume(ctx context.Context, pod *core.Pod, v *core.Volume) (volume, error) {
	dir := w.path("volumes", v.Name)
	switch {
	case v.HostPath != nil:
		path, err := w.kubelet.node.hostPath(v.HostPath)
		return volume{path: path}, err
	case v.EmptyDir != nil:
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = os.Chmod(dir, 0o777)
		}
		return volume{path: dir}, err
	}
	files, err := w.payload(ctx, pod, v)
	if err != nil {
		return volume{}, err
	}
	return volume{path: dir, readOnly: true}, project(dir, files)
}

// hostPath is where a path of the node is on this machine, which is that of all
// nodes.
func (n *Node) hostPath(v *core.HostPathVolumeSource) (string, error) {
	kind := core.HostPathUnset
	if v.Type != nil {
		kind = *v.Type
	}
	if err := n.mountBPF(); err != nil {
		return "", err
	}
	path := n.Disk(v.Path)
	info, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && kind == core.HostPathDirectoryOrCreate:
		return path, os.MkdirAll(path, 0o755)
	case missing:
		return "", fmt.Errorf("the node has no %s", v.Path)
	case err != nil:
		return "", err
	case kind == core.HostPathUnset,
		info.IsDir() && (kind == core.HostPathDirectory || kind == core.HostPathDirectoryOrCreate),
		info.Mode().IsRegular() && kind == core.HostPathFile:
		return path, nil
	}
	return "", fmt.Errorf("%s of the node is no %s, or one that the lab does not know", v.Path, kind)
}

// project writes files into a volume as a kubelet does: what is seen under their
// names are links to a directory that is replaced as a whole.
func project(dir string, files map[string]file) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	const current, version = "..data", "..1"
	if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(version, filepath.Join(dir, current)); err != nil {
		return err
	}
	for name, f := range files {
		path := filepath.Join(dir, version, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.data, f.mode); err != nil {
			return err
		}
		if err := os.Chmod(path, f.mode); err != nil {
			return err
		}
		top, _, _ := strings.Cut(name, "/")
		err := os.Symlink(filepath.Join(current, top), filepath.Join(dir, top))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// api is the API, as the kubelet may use it.
func (w *worker) api() kubernetes.Interface { return w.kubelet.node.cluster.client }
