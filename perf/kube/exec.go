package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"fairlead/perf/lab"
)

// streamIdle is how long a stream of kubectl exec may be silent.
const streamIdle = 10 * time.Minute

// serve answers what kubectl exec, logs and port-forward ask a node for, until ctx
// ends.
func (n *Node) serve(ctx context.Context) error {
	serving, err := n.cluster.authority.server([]string{n.Name}, []netip.Addr{n.Host.IPv4, n.Host.IPv6})
	if err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(serving.certificate, serving.key)
	if err != nil {
		return err
	}
	ln, err := n.Host.Listen("tcp", fmt.Sprintf(":%d", kubeletPort))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", n.serveExec)
	mux.HandleFunc("/exec/{namespace}/{pod}/{uid}/{container}", n.serveExec)
	mux.HandleFunc("/portForward/{namespace}/{pod}", n.servePortForward)
	mux.HandleFunc("/containerLogs/{namespace}/{pod}/{container}", n.serveLogs)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 30 * time.Second,
		// Streams change the protocol of HTTP/1.1.
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}},
	}
	n.cluster.running.Go(func() { _ = server.ServeTLS(ln, "", "") }) // it ends with Close alone
	n.cluster.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-n.kubelet.dead:
		}
		server.Close()
	})
	return nil
}

// container is the one that a request names.
func (n *Node) container(namespace, pod, name string) (*container, error) {
	w := n.kubelet.worker(namespace, pod)
	if w == nil {
		return nil, fmt.Errorf("no pod %s/%s runs on %s", namespace, pod, n.Name)
	}
	for _, c := range w.allContainers() {
		if c.spec.Name == name || name == "" {
			return c, nil
		}
	}
	return nil, fmt.Errorf("pod %s/%s has no container %s", namespace, pod, name)
}

func (n *Node) serveExec(w http.ResponseWriter, r *http.Request) {
	c, err := n.container(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(w, r, executor{c}, r.PathValue("pod"), r.PathValue("uid"), c.spec.Name, r.Form["command"], options,
		streamIdle, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// executor runs commands beside a container's process.
type executor struct{ c *container }

// ExecInContainer runs one, and fails as remotecommand wants it when the command
// does.
func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, command []string, in io.Reader, out, complaints io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	err := e.c.exec(ctx, command, in, writer(out), writer(complaints))
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}

// writer is where output goes that may be unwanted.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

func (n *Node) servePortForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, forwarder{n, r.PathValue("namespace")}, r.PathValue("pod"), "", options,
		streamIdle, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
}

// forwarder carries connections to ports of pods.
type forwarder struct {
	node      *Node
	namespace string
}

// PortForward carries one, until either side ends.
func (f forwarder) PortForward(ctx context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	w := f.node.kubelet.worker(f.namespace, pod)
	if w == nil {
		return fmt.Errorf("no pod %s/%s runs on %s", f.namespace, pod, f.node.Name)
	}
	host, err := w.host()
	if err != nil {
		return err
	}
	conn, err := host.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	ended := make(chan error, 2)
	go func() { _, err := io.Copy(conn, stream); ended <- err }()
	go func() { _, err := io.Copy(stream, conn); ended <- err }()
	return <-ended
}

// serveLogs writes what a container's process has written, and with follow what
// it writes until it ends.
func (n *Node) serveLogs(w http.ResponseWriter, r *http.Request) {
	c, err := n.container(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	c.mu.Lock()
	p := c.process
	c.mu.Unlock()
	if p == nil {
		return
	}
	written := tail(p.Output(), r.FormValue("tailLines"))
	if _, err := w.Write(written); err != nil || r.FormValue("follow") != "true" {
		return
	}
	follow(w, r, p.Process)
}

// follow writes what a process adds to its output.
func follow(w http.ResponseWriter, r *http.Request, p *lab.Process) {
	flusher := http.NewResponseController(w)
	for sent := len(p.Output()); ; {
		var ended bool
		select {
		case <-r.Context().Done():
			return
		case <-p.Done():
			ended = true
		case <-time.After(50 * time.Millisecond):
		}
		out := p.Output()
		if _, err := w.Write(out[min(sent, len(out)):]); err != nil || flusher.Flush() != nil || ended {
			return
		}
		sent = len(out)
	}
}

// tail is the last lines of a text; "" is all of them.
func tail(out []byte, lines string) []byte {
	n, err := strconv.Atoi(lines)
	if err != nil {
		return out
	}
	all := strings.SplitAfter(string(bytes.TrimSuffix(out, []byte("\n"))), "\n")
	return []byte(strings.Join(all[max(len(all)-n, 0):], ""))
}
