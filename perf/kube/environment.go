package kube

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// environment is the variables of a container, in their order.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	var list []string
	for _, name := range e.names {
		list = append(list, name+"="+e.values[name])
	}
	return list
}

var reference = regexp.MustCompile(`\$\$|\$\([-._a-zA-Z][-._a-zA-Z0-9]*\)`)

// expand puts variables in place of $(NAME). What is not one stays, and $$ is $.
func (e *environment) expand(s string) string {
	return reference.ReplaceAllStringFunc(s, func(found string) string {
		if found == "$$" {
			return "$"
		}
		if value, ok := e.values[found[2:len(found)-1]]; ok {
			return value
		}
		return found
	})
}

// environment is what a container finds: what it asks for, and where the API
// server is.
func (w *worker) environment(ctx context.Context, pod *core.Pod, spec *core.Container, image Image) (*environment, error) {
	e := &environment{values: map[string]string{}}
	if root := image.Root; root != nil {
		e.set("HOME", "/")
		for _, v := range root.Environment {
			name, value, _ := strings.Cut(v, "=")
			e.set(name, value)
		}
	} else {
		e.set("PATH", os.Getenv("PATH"))
		e.set("HOME", "/root")
	}
	e.set("KUBERNETES_SERVICE_HOST", Services4.Addr().Next().String())
	e.set("KUBERNETES_SERVICE_PORT", "443")
	for _, v := range spec.Env {
		value := e.expand(v.Value)
		if v.ValueFrom != nil {
			var err error
			if value, err = w.valueFrom(ctx, pod, v.ValueFrom); err != nil {
				return nil, fmt.Errorf("variable %s: %w", v.Name, err)
			}
		}
		e.set(v.Name, value)
	}
	return e, nil
}

func (w *worker) valueFrom(ctx context.Context, pod *core.Pod, from *core.EnvVarSource) (string, error) {
	api := w.kubelet.node.cluster.client.CoreV1()
	switch {
	case from.FieldRef != nil:
		return w.field(pod, from.FieldRef.FieldPath)
	case from.ConfigMapKeyRef != nil:
		m, err := api.ConfigMaps(pod.Namespace).Get(ctx, from.ConfigMapKeyRef.Name, meta.GetOptions{})
		if err != nil {
			return "", err
		}
		return m.Data[from.ConfigMapKeyRef.Key], nil
	case from.SecretKeyRef != nil:
		s, err := api.Secrets(pod.Namespace).Get(ctx, from.SecretKeyRef.Name, meta.GetOptions{})
		if err != nil {
			return "", err
		}
		return string(s.Data[from.SecretKeyRef.Key]), nil
	}
	return "", fmt.Errorf("the lab knows no such source")
}

// field is what the downward API says of a pod.
func (w *worker) field(pod *core.Pod, path string) (string, error) {
	w.mu.Lock()
	box := w.box
	w.mu.Unlock()
	host := w.kubelet.node.Host
	if section, key, ok := strings.Cut(path, "['"); ok {
		key = strings.TrimSuffix(key, "']")
		switch section {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP":
		return box.ipv4.String(), nil
	case "status.podIPs":
		return box.ipv4.String() + "," + box.ipv6.String(), nil
	case "status.hostIP":
		return host.IPv4.String(), nil
	case "status.hostIPs":
		return host.IPv4.String() + "," + host.IPv6.String(), nil
	}
	return "", fmt.Errorf("the lab knows no field %s", path)
}
