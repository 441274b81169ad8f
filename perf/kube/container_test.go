package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rootImage is the lab's own program in a file system of its own.
func rootImage(program string) Image {
	return Image{Path: "/bin/pod", Entrypoint: []string{"pause"}, Root: &Root{
		Programs:    map[string]string{"/bin/pod": program},
		Files:       map[string]string{"/etc/passwd": "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"},
		Directories: []string{"/tmp"}, Environment: []string{"PATH=/bin"}, User: 65534, Group: 65534,
	}}
}

const containedManifest = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: looker}
---
apiVersion: v1
kind: Pod
metadata: {name: restricted, labels: {color: blue}}
spec:
  serviceAccountName: looker
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  nodeName: b1
  securityContext: {supplementalGroups: [77]}
  initContainers:
  - name: before
    image: lab/look:1
    command: [pod, look, /run/shared]
    volumeMounts: [{name: shared, mountPath: /run/shared}]
  containers:
  - name: main
    image: lab/look:1
    securityContext:
      runAsUser: 0
      runAsGroup: 0
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL], add: [NET_ADMIN, BPF]}
    readinessProbe: {exec: {command: [pod, look]}, periodSeconds: 1}
    volumeMounts:
    - {name: config, mountPath: /etc/config}
    - {name: secret, mountPath: /etc/secret, readOnly: true}
    - {name: shared, mountPath: /run/shared}
    - {name: state, mountPath: /var/lib/state}
    - {name: bpf, mountPath: /sys/fs/bpf}
    - {name: facts, mountPath: /etc/facts}
  - name: other
    image: lab/look:1
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
  volumes:
  - {name: config, configMap: {name: config, items: [{key: a, path: deep/down/a}, {key: b, path: b, mode: 0600}]}}
  - {name: secret, secret: {secretName: secret, defaultMode: 0400}}
  - {name: shared, emptyDir: {medium: Memory}}
  - {name: state, hostPath: {path: /var/lib/state, type: DirectoryOrCreate}}
  - {name: bpf, hostPath: {path: /sys/fs/bpf, type: Directory}}
  - {name: facts, downwardAPI: {items: [{path: color, fieldRef: {fieldPath: "metadata.labels['color']"}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  nodeName: b1
  automountServiceAccountToken: false
  containers: [{name: main, image: lab/look:1, command: [pod, pause]}]
`

const laterManifest = `
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {a: first, b: second, c: third}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {key: hush}
`

// seen is what `pod look` prints.
type seen struct {
	PID, User, Group int
	Groups           []int
	Hostname         string
	Status           map[string]string
	Paths            map[string]struct {
		Error, Mode, Text string
		Names             []string
		Writable          bool
	}
}

// TestContainers: a container of an image with a file system of its own has the
// volumes that its pod asks for, the rights that it asks for and no more, and so has
// what kubectl exec and probes run in it.
func TestContainers(t *testing.T) {
	t.Parallel()
	program, err := buildPod(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := ClusterForTest(t, ClusterConfig{Nodes: 1, Images: map[string]Image{"lab/look": rootImage(program)}})
	ctx := t.Context()
	apply := func(text string) {
		t.Helper()
		if err := c.Apply(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	apply(containedManifest)
	eventually(t, func(ctx context.Context) error {
		pod, err := c.Client().CoreV1().Pods("default").Get(ctx, "restricted", meta.GetOptions{})
		if err != nil {
			return err
		}
		if want := `volume config: configmaps "config" not found`; pod.Status.Message != want {
			return fmt.Errorf("status %q, want %q", pod.Status.Message, want)
		}
		return nil
	})
	apply(laterManifest)
	if _, err := c.Kubectl(ctx, "wait", "--for=condition=Ready", "pod/restricted", "pod/plain", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
	look := func(pod, container string, paths ...string) (s seen) {
		t.Helper()
		out, err := c.Kubectl(ctx, append([]string{"exec", pod, "-c", container, "--", "pod", "look"}, paths...)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return s
	}
	t.Run("rights", func(t *testing.T) {
		const some = "0000008000001000" // NET_ADMIN and BPF
		s := look("restricted", "main")
		if s.User != 0 || s.Group != 0 || !slices.Equal(s.Groups, []int{77}) || s.Hostname != "b1" {
			t.Errorf("it is %d:%d %v on %s", s.User, s.Group, s.Groups, s.Hostname)
		}
		for name, want := range map[string]string{"CapEff": some, "CapPrm": some, "CapBnd": some, "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1"} {
			if s.Status[name] != want {
				t.Errorf("%s is %s, want %s", name, s.Status[name], want)
			}
		}
		s = look("plain", "main", "/", "/tmp", "/proc/1/cmdline")
		if s.User != 65534 || s.Group != 65534 || s.Hostname != "plain" || s.Status["CapEff"] != "0000000000000000" || s.Status["CapBnd"] != "00000000a80425fb" || s.Status["NoNewPrivs"] != "0" {
			t.Errorf("one that asks for nothing: %+v", s)
		}
		if got := s.Paths["/proc/1/cmdline"].Text; got != "/bin/pod\x00pause\x00" {
			t.Errorf("its first process is %q", got)
		}
		if got := s.Paths["/"].Names; !slices.Equal(got, []string{"bin", "dev", "etc", "proc", "sys", "tmp"}) {
			t.Errorf("its root has %v", got)
		}
	})
	t.Run("init container", func(t *testing.T) {
		pod, err := c.Client().CoreV1().Pods("default").Get(ctx, "restricted", meta.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		before, main := pod.Status.InitContainerStatuses[0].State.Terminated, pod.Status.ContainerStatuses[0].State.Running
		if before == nil || before.ExitCode != 0 || main == nil || main.StartedAt.Before(&before.FinishedAt) {
			t.Errorf("the init container: %+v, and then %+v", before, main)
		}
		out, err := c.Kubectl(ctx, "logs", "restricted", "-c", "before")
		var s seen
		if err := errors.Join(err, json.Unmarshal([]byte(out), &s)); err != nil || !s.Paths["/run/shared"].Writable {
			t.Errorf("what it has seen: %s, %v", out, err)
		}
	})
	t.Run("files", func(t *testing.T) {
		const account = "/var/run/secrets/kubernetes.io/serviceaccount"
		s := look("restricted", "main", "/", "/etc/config/deep/down/a", "/etc/config/b", "/etc/config/c", "/etc/config", "/etc/secret/key", "/run/shared", "/var/lib/state", "/sys/fs/bpf",
			"/etc/facts/color", account+"/namespace", account+"/ca.crt", account+"/token", "/proc/sys/kernel/hostname", "/proc/keys", "/etc/resolv.conf", "/dev/null")
		for path, want := range map[string]string{
			"/etc/config/deep/down/a": "first", "/etc/config/b": "second", "/etc/secret/key": "hush", "/etc/facts/color": "blue",
			account + "/namespace": "default", account + "/ca.crt": string(c.CA()), "/proc/keys": "",
			"/etc/resolv.conf": "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 198.18.0.5\noptions ndots:5\n",
		} {
			if got := s.Paths[path]; got.Text != want || got.Error != "" {
				t.Errorf("%s has %q (%s), want %q", path, got.Text, got.Error, want)
			}
		}
		for path, want := range map[string]string{"/etc/config/b": "-rw-------", "/etc/secret/key": "-r--------", "/etc/config/deep/down/a": "-rw-r--r--", "/run/shared": "drwxrwxrwx", "/sys/fs/bpf": "dtrwx------"} {
			if got := s.Paths[path].Mode; got != want {
				t.Errorf("%s is %s, want %s", path, got, want)
			}
		}
		for path, want := range map[string]bool{"/": false, "/etc/config": false, "/etc/config/b": false, "/etc/secret/key": false, "/run/shared": true, "/var/lib/state": true, "/sys/fs/bpf": true, "/proc/sys/kernel/hostname": false, "/dev/null": true} {
			if got := s.Paths[path].Writable; got != want {
				t.Errorf("%s is writable: %v, want %v", path, got, want)
			}
		}
		if got := s.Paths["/etc/config/c"].Error; got != "no such file or directory" {
			t.Errorf("a key that is not asked for: %q", got)
		}
		if s := look("restricted", "other", "/shared"); s.Paths["/shared"].Writable || s.Paths["/shared"].Error != "" {
			t.Errorf("the volume that two share: %+v", s.Paths)
		}
		review, err := c.Client().AuthenticationV1().TokenReviews().Create(ctx, &authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: s.Paths[account+"/token"].Text}}, meta.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := review.Status.User.Username, "system:serviceaccount:default:looker"; got != want {
			t.Errorf("the token is of %q (%s), want %s", got, review.Status.Error, want)
		}
	})
	t.Run("names", func(t *testing.T) {
		apply("apiVersion: v1\nkind: Service\nmetadata: {name: headless}\nspec: {clusterIP: None, selector: {color: blue}, ports: [{port: 80}]}\n")
		eventually(t, func(ctx context.Context) error {
			for name, want := range map[string]string{"headless.default.svc.cluster.local.": "[198.18.0.11]", "kubernetes.default.svc.cluster.local.": "[198.19.0.1]"} {
				if all, err := c.names.lookup(name); err != nil || fmt.Sprint(all) != want {
					return fmt.Errorf("%s is %v, %w", name, all, err)
				}
			}
			return nil
		})
		if _, err := c.names.lookup("nothing.default.svc.cluster.local."); err == nil || err.Error() != `services "nothing" not found` {
			t.Errorf("a name that there is not: %v", err)
		}
	})
	t.Run("what cannot start", func(t *testing.T) {
		apply("apiVersion: v1\nkind: Pod\nmetadata: {name: wrong}\nspec: {nodeName: b1, containers: [{name: main, image: lab/look, command: [/bin/nothing]}]}\n")
		eventually(t, func(ctx context.Context) error {
			out, err := c.Kubectl(ctx, "get", "pod", "wrong", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.message}")
			if want := `exec: "/bin/nothing": stat /bin/nothing: no such file or directory`; err != nil || out != want {
				return fmt.Errorf("status %q, %w", out, err)
			}
			return nil
		})
	})
	t.Run("end", func(t *testing.T) {
		if _, err := c.Kubectl(ctx, "delete", "pod", "restricted", "plain", "wrong", "--timeout=60s"); err != nil {
			t.Fatal(err)
		}
		left, err := filepath.Glob(c.path("pods") + "/*")
		if err != nil || len(left) > 0 {
			t.Errorf("left of the pods: %v, %v", left, err)
		}
		if left, err := filepath.Glob(c.Node("b1").Disk("/var/lib") + "/*"); err != nil || !strings.HasSuffix(strings.Join(left, " "), "/var/lib/state") {
			t.Errorf("left on the node: %v, %v", left, err)
		}
	})
}
