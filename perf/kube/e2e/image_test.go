package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"fairlead/perf/kube"
)

// imageName is that of the image in the tests' manifests.
const imageName = "registry.example.com/fairlead"

// Lines of the Dockerfile: what its first stage writes into files, and what its last
// one consists of.
var (
	printfLine = regexp.MustCompile(`printf '([^']*)' > /out/(\w+)`)
	copyLine   = regexp.MustCompile(`^COPY --from=build ((?:\S+ )+)(\S+)$`)
	userLine   = regexp.MustCompile(`^USER (\d+):(\d+)$`)
)

// shippedImage is the image that the Dockerfile describes, as the lab has images: of
// the same files, with the binary of the tests in its place.
func shippedImage(t *testing.T) kube.Image {
	t.Helper()
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	root := &kube.Root{Programs: map[string]string{}, Files: map[string]string{}}
	image := kube.Image{Root: root}
	made := map[string]string{"/etc/ssl/certs/ca-certificates.crt": "none are needed here\n"}
	for _, m := range printfLine.FindAllStringSubmatch(string(text), -1) {
		made["/out/"+m[2]] = strings.ReplaceAll(m[1], `\n`, "\n")
	}
	_, last, _ := strings.Cut(string(text), "\nFROM scratch\n")
	for line := range strings.Lines(last) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#":
		case "COPY":
			m := copyLine.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("the Dockerfile says %q", line)
			}
			for source := range strings.FieldsSeq(m[1]) {
				to := m[2]
				if strings.HasSuffix(to, "/") {
					to += source[strings.LastIndexByte(source, '/')+1:]
				}
				switch content, is := made[source]; {
				case is:
					root.Files[to] = content
				case source == "/out/fairlead":
					root.Programs[to] = binary
				case source == "/out/empty":
					root.Directories = append(root.Directories, to)
				default:
					t.Fatalf("the Dockerfile copies %s, which the test does not know", source)
				}
			}
		case "ENV":
			root.Environment = append(root.Environment, rest)
		case "USER":
			m := userLine.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("the Dockerfile says %q", line)
			}
			root.User, root.Group = number(t, m[1]), number(t, m[2])
		case "ENTRYPOINT", "CMD":
			var args []string
			if err := json.Unmarshal([]byte(rest), &args); err != nil {
				t.Fatalf("the Dockerfile says %q: %v", line, err)
			}
			if word == "ENTRYPOINT" {
				image.Path, image.Entrypoint = args[0], args[1:]
			} else {
				image.Arguments = args
			}
		default:
			t.Fatalf("the Dockerfile says %q", line)
		}
	}
	if root.Programs[image.Path] == "" || root.Files["/etc/passwd"] == "" {
		t.Fatalf("the Dockerfile makes %+v", image)
	}
	return image
}

func number(t *testing.T, text string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}
