package watch

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"fairlead/k8ssync/kube"
)

func TestServerThatDiesAndComesBack(t *testing.T) {
	ns := namespace(t)
	c, log := connect(t, plane.REST())
	o := follow(t, c, servicesIn(ns))
	create(t, service(ns, "a", nil))
	until(t, "a is known", func() bool { return o.Len() == 1 })
	before := c.Status()
	if !before.Connected || before.Error != "" || before.Kinds[0].State != Watching || !before.Kinds[0].Synced || before.Kinds[0].Objects != 1 {
		t.Errorf("status: %+v", before)
	}
	if err := plane.StopAPI(); err != nil {
		t.Fatal(err)
	}
	until(t, "away", func() bool { return !c.Connected() })
	s := c.Status()
	if s.Error == "" || s.Code != 0 || s.Since.Before(before.Since) || s.Kinds[0].State != Away || o.Len() != 1 {
		t.Errorf("status: %+v, %d objects", s, o.Len())
	}
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "connected again", c.Connected)
	create(t, service(ns, "b", nil))
	until(t, "b is known", func() bool { return o.Len() == 2 })
	if s := c.Status(); s.Error != "" || s.Kinds[0].Error != "" {
		t.Errorf("status: %+v", s)
	}
	for _, line := range []string{"connected to Kubernetes", "Kubernetes is away; the node goes on with what it knows"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("not logged: %s\n%s", line, log)
		}
	}
}

func TestServerThatWasNeverReached(t *testing.T) {
	c, log := connect(t, &rest.Config{Host: "https://127.0.0.1:1"})
	follow(t, c, Services(false))
	follow(t, c, Nodes())
	const line = "Kubernetes is away; the node goes on with what it knows"
	until(t, "it is logged", func() bool { return strings.Contains(log.String(), line) })
	until(t, "both kinds are away", func() bool {
		s := c.Status()
		return !s.Connected && s.Error != "" && s.Kinds[0].State == Away && s.Kinds[1].State == Away
	})
	if n := strings.Count(log.String(), line); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, log)
	}
}

func TestWatchThatIsCutGoesOn(t *testing.T) {
	ns := namespace(t)
	proxy, err := plane.NewProxy(nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	c, _ := connect(t, proxy.REST(plane.REST()))
	o := follow(t, c, servicesIn(ns))
	var h history
	o.Subscribe(h.add)
	<-o.Synced()
	create(t, service(ns, "a", nil))
	until(t, "a is known", func() bool { return o.Len() == 1 })
	proxy.Cut()
	create(t, service(ns, "b", nil))
	until(t, "b is known", func() bool { return o.Len() == 2 })
	until(t, "connected", c.Connected)
	if want := "add a, add b"; strings.ReplaceAll(h.String(), "relisted ", "") != want {
		t.Errorf("told: %s, want %s", h.String(), want)
	}
}

// A missing permission is named with the rule that grants it, and the objects are
// there when it is granted.
func TestPermissionThatIsMissing(t *testing.T) {
	cfg, err := plane.User("nobody-in-particular")
	if err != nil {
		t.Fatal(err)
	}
	c, log := connect(t, cfg)
	o := follow(t, c, Services(true))
	until(t, "refused", func() bool { return kind(t, c, "services").State == Forbidden })
	k := kind(t, c, "services")
	if want := `apiGroups: [""], resources: ["services"], verbs: ["list", "watch"]`; k.Rule != want || k.Code != http.StatusForbidden {
		t.Errorf("status %+v, want rule %s", k, want)
	}
	for _, want := range []string{`services is forbidden: User "nobody-in-particular" cannot `, ` resource "services" in API group "" at the cluster scope`} {
		if !strings.Contains(k.Error, want) {
			t.Errorf("error %q, want %q", k.Error, want)
		}
	}
	if !strings.Contains(log.String(), "Kubernetes refuses what is needed") {
		t.Errorf("not logged:\n%s", log)
	}
	if o.HasSynced() {
		t.Error("what may not be seen counts as seen")
	}
	rbac := admin(t).RbacV1()
	rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list", "watch"}}
	if _, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sees-services"}, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "sees-services"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "sees-services"},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: "nobody-in-particular"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "allowed", o.HasSynced)
	until(t, "connected", c.Connected)
	if k := kind(t, c, "services"); k.State != Watching || k.Rule != "" || k.Error != "" {
		t.Errorf("status %+v", k)
	}
}

// A kind of objects that the API server does not know is nothing that keeps others
// from being followed.
func TestKindThatIsMissing(t *testing.T) {
	gone := func(optional bool) Resource[*corev1.Service] {
		r := Services(true)
		r.Name, r.Optional = "servlets", optional
		return r
	}
	c, _ := connect(t, plane.REST())
	needed, optional := follow(t, c, gone(false)), follow(t, c, gone(true))
	<-optional.Synced()
	until(t, "missing", func() bool { return kind(t, c, "servlets").State == Missing })
	if optional.Len() != 0 || needed.HasSynced() {
		t.Error("a kind that is needed counts as seen")
	}
	until(t, "connected", c.Connected)
}

// Credentials in a kubeconfig are used as soon as they are there.
func TestCredentialsThatChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	wrong := plane.REST()
	wrong.CertData, wrong.KeyData, wrong.BearerToken = nil, nil, "not-a-token"
	if err := plane.Kubeconfig(path, wrong); err != nil {
		t.Fatal(err)
	}
	out := &lines{}
	var ahead atomic.Int64 // of the clock by which files are looked at
	c, err := Connect(Config{Settings: kube.Settings{Kubeconfig: path}, Log: testLog(out), Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	o := follow(t, c, Services(true))
	until(t, "not authenticated", func() bool { return c.Status().Code == http.StatusUnauthorized })
	if c.Connected() || kind(t, c, "services").State != Away {
		t.Errorf("status %+v", c.Status())
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the file is wrong", func() bool { ahead.Add(int64(time.Second)); return c.Status().Note != "" })
	if note := c.Status().Note; !strings.HasPrefix(note, "kubeconfig "+path+": ") {
		t.Errorf("note %q", note)
	}
	if err := plane.Kubeconfig(path, plane.REST()); err != nil {
		t.Fatal(err)
	}
	until(t, "in step", o.HasSynced)
	until(t, "connected", c.Connected)
	if s := c.Status(); s.Note != "" || s.Error != "" {
		t.Errorf("status %+v", s)
	}
}

func TestServerWithTokenAndCA(t *testing.T) {
	dir := t.TempDir()
	if _, err := admin(t).CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "balancer"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := plane.Token(t.Context(), "default", "balancer")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := kube.Settings{Server: plane.REST().Host, TokenFile: write("token", token+"\n"), CAFile: write("ca", string(plane.CA()))}
	c, err := Connect(Config{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	follow(t, c, Services(true))
	// It is known, and may not do anything.
	until(t, "known", func() bool {
		return strings.Contains(kind(t, c, "services").Error, `User "system:serviceaccount:default:balancer" cannot `)
	})
}

func TestSettingsThatLeadNowhere(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty, junk, none := write("empty", " \n"), write("junk", "{"), filepath.Join(dir, "none")
	good := write("good", "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://192.0.2.1'}}]\ncontexts: [{name: x, context: {cluster: c}}]\n")
	for _, tc := range []struct {
		name, want string
		settings   kube.Settings
	}{
		{"no file", "kubeconfig: stat " + none + ": no such file or directory", kube.Settings{Kubeconfig: none}},
		{"not YAML", "kubeconfig " + junk + ": error loading config file \"" + junk + "\": yaml: line 1: did not find expected node content", kube.Settings{Kubeconfig: junk}},
		{"no context", "kubeconfig " + good + ": invalid configuration: no configuration has been provided, try setting KUBERNETES_MASTER environment variable", kube.Settings{Kubeconfig: good}},
		{"another context", "kubeconfig " + good + `: context "y" does not exist`, kube.Settings{Kubeconfig: good, Context: "y"}},
		{"no token", "token of Kubernetes: open " + none + ": no such file or directory", kube.Settings{Server: "https://192.0.2.1", TokenFile: none}},
		{"empty token", "token of Kubernetes: " + empty + " is empty", kube.Settings{Server: "https://192.0.2.1", TokenFile: empty}},
		{"no CA", "certificate authority of Kubernetes: open " + none + ": no such file or directory", kube.Settings{Server: "https://192.0.2.1", CAFile: none}},
		{"no URL", `API server "https://[": host must be a URL or a host:port pair: "https://["`, kube.Settings{Server: "https://["}},
		{"no pod", "no kubeconfig and no server is set, and this is no pod with a service account: unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined", kube.Settings{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Connect(Config{Settings: tc.settings})
			if err == nil || err.Error() != tc.want {
				t.Errorf("error %v\nwant  %s", err, tc.want)
			}
		})
	}
}

// An API server whose database was put back is noticed, though the watch says
// nothing.
func TestDatabaseThatWasPutBack(t *testing.T) {
	ns := namespace(t)
	var older atomic.Bool
	proxy, err := plane.NewProxy(nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	second := otherPlane(t)
	cfg := switched(t, proxy.REST(plane.REST()), second.REST(), &older)
	c, _ := connect(t, cfg)
	o := follow(t, c, servicesIn(ns))
	create(t, service(ns, "a", nil))
	until(t, "a is known", func() bool { return o.Len() == 1 })
	var gone atomic.Int32
	o.Subscribe(func(e Event[*corev1.Service]) {
		if e.New == nil && e.Restored {
			gone.Add(1)
		}
	})
	known := o.Version()
	proxy.Refuse()
	until(t, "away", func() bool { return !c.Connected() })
	older.Store(true)
	until(t, "the objects of another time", func() bool { return gone.Load() == 1 && o.Len() == 0 })
	if !earlier(o.Version(), known) {
		t.Errorf("version %s is not earlier than %s", o.Version(), known)
	}
	until(t, "connected", c.Connected)
}

// A kind that begins to be followed, as a node does that begins to write, is no sign
// that the API server is away.
func TestFurtherKindsLeaveTheConnectionAlone(t *testing.T) {
	c, _ := connect(t, plane.REST())
	o := follow(t, c, Services(true))
	<-o.Synced()
	until(t, "connected", c.Connected)
	since := c.Status().Since
	further, err := New(c, Nodes())
	if err != nil {
		t.Fatal(err)
	}
	create(t, service(namespace(t), "a", nil))
	c.succeeded(o.state)
	if !c.Connected() {
		t.Error("away")
	}
	run(t, further)
	<-further.Synced()
	if s := c.Status(); !s.Connected || s.Since != since {
		t.Errorf("status %+v", s)
	}
}
