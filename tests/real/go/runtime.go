// What the Go runtime asks of a kernel: each part prints one line, and the whole is the same wherever it runs.
// Started as "runtime child STATUS" it is the command that the parent's os/exec part runs.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// goroutines passes a number through a chain of thousands, each of which adds one.
func goroutines() {
	const links = 5000
	first := make(chan int)
	from := first
	for i := 0; i < links; i++ {
		to := make(chan int)
		go func(from, to chan int) { to <- 1 + <-from }(from, to)
		from = to
	}
	first <- 0
	fmt.Println("goroutines", <-from)
}

// threads holds more goroutines in read(2) at once than there are processors: each of them costs a thread.
func threads() {
	const count = 20
	var group sync.WaitGroup
	var sum int64
	var ends [count][2]int
	for i := range ends {
		must(syscall.Pipe(ends[i][:]))
		group.Add(1)
		go func(fd int) {
			defer group.Done()
			runtime.LockOSThread()
			var buffer [1]byte
			_, err := syscall.Read(fd, buffer[:])
			must(err)
			atomic.AddInt64(&sum, int64(buffer[0]))
		}(ends[i][0])
	}
	for i := range ends {
		_, err := syscall.Write(ends[i][1], []byte{byte(i)})
		must(err)
	}
	group.Wait()
	for _, pair := range ends {
		must(syscall.Close(pair[0]))
		must(syscall.Close(pair[1]))
	}
	fmt.Println("threads", sum)
}

// poller lets epoll wake goroutines that read from pipes.
func poller() {
	const pipes, lines = 30, 20
	var group sync.WaitGroup
	var total int64
	for i := 0; i < pipes; i++ {
		reader, writer, err := os.Pipe()
		must(err)
		group.Add(1)
		go func() {
			defer group.Done()
			for scanner := bufio.NewScanner(reader); scanner.Scan(); {
				number, err := strconv.Atoi(scanner.Text())
				must(err)
				atomic.AddInt64(&total, int64(number))
			}
			must(reader.Close())
		}()
		go func() {
			for line := 0; line < lines; line++ {
				fmt.Fprintln(writer, line)
				runtime.Gosched()
			}
			must(writer.Close())
		}()
	}
	group.Wait()
	reader, _, err := os.Pipe()
	must(err)
	must(reader.SetReadDeadline(time.Now().Add(10 * time.Millisecond)))
	_, err = reader.Read(make([]byte, 1))
	fmt.Println("poller", total, errors.Is(err, os.ErrDeadlineExceeded))
}

// commands runs this program as children of its own, side by side, and kills one that would not end.
func commands() {
	self, err := os.Executable()
	must(err)
	var group sync.WaitGroup
	var output [6]string
	for i := range output {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			command := exec.Command(self, "child", strconv.Itoa(i))
			command.Stdin = strings.NewReader(strings.Repeat("x", 1000*i))
			command.Env = []string{"NAME=child" + strconv.Itoa(i)}
			text, err := command.Output()
			status := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				status = exit.ExitCode()
			} else {
				must(err)
			}
			output[i] = fmt.Sprintf("%s=%d", text, status)
		}(i)
	}
	group.Wait()
	fmt.Println("commands", strings.Join(output[:], " "))

	ctx, cancel := context.WithCancel(context.Background())
	forever := exec.CommandContext(ctx, self, "child", "forever")
	stdout, err := forever.StdoutPipe()
	must(err)
	must(forever.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(err)
	cancel()
	err = forever.Wait()
	_, missing := exec.Command("/nonesuch").Output()
	fmt.Println("killed", strings.TrimSpace(line), err, errors.Is(missing, os.ErrNotExist))
}

func child(argument string) {
	if argument == "forever" {
		fmt.Println("ready")
		time.Sleep(time.Hour) // without a timer the runtime would find the deadlock and exit
	}
	status, err := strconv.Atoi(argument)
	must(err)
	text, err := io.ReadAll(os.Stdin)
	must(err)
	fmt.Printf("%s:%d", os.Getenv("NAME"), len(text))
	os.Exit(status)
}

// signals takes some by channel, and one that the hardware raised as a panic.
func signals() {
	channel := make(chan os.Signal, 10)
	signal.Notify(channel, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM)
	for _, number := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGUSR2} {
		must(syscall.Kill(syscall.Getpid(), number))
		fmt.Printf("signal %v\n", <-channel)
	}
	signal.Ignore(syscall.SIGUSR1)
	must(syscall.Kill(syscall.Getpid(), syscall.SIGUSR1))
	signal.Reset(syscall.SIGUSR2, syscall.SIGTERM)

	defer func() { fmt.Println("recovered", recover()) }()
	var nothing *[1]int
	fmt.Println(nothing[0])
}

// timers fire in the order of their times, whatever the order they were set in; one is stopped, one is a ticker.
func timers() {
	start := time.Now()
	fired := make(chan int, 10)
	for _, tenths := range []int{3, 1, 2} {
		tenths := tenths
		time.AfterFunc(time.Duration(tenths)*100*time.Millisecond, func() { fired <- tenths })
	}
	stopped := time.AfterFunc(time.Hour, func() { fired <- 99 }).Stop()
	order := []int{<-fired, <-fired, <-fired}
	ticker := time.NewTicker(time.Millisecond)
	for i := 0; i < 5; i++ {
		<-ticker.C
	}
	ticker.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	fmt.Println("timers", order, stopped, ctx.Err(), time.Since(start) >= 300*time.Millisecond)
}

type node struct{ left, right *node }

func grow(depth int) *node {
	if depth == 0 {
		return nil
	}
	return &node{grow(depth - 1), grow(depth - 1)}
}

func (n *node) count() int {
	if n == nil {
		return 0
	}
	return 1 + n.left.count() + n.right.count()
}

// garbage makes a lot of it while some is kept.
func garbage() {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	kept := grow(12)
	for i := 0; i < 8; i++ {
		grow(12)
		runtime.GC()
	}
	finalized := make(chan bool)
	runtime.SetFinalizer(&node{kept, kept}, func(*node) { close(finalized) })
	runtime.GC()
	<-finalized
	runtime.ReadMemStats(&after)
	fmt.Println("garbage", kept.count(), after.NumGC-before.NumGC >= 9, after.Frees > before.Frees)
}

// preemption takes the processor by a signal from a goroutine that never yields it. On the only processor each turn
// of that goroutine lasts 10 ms, which is why there are few of them.
func preemption() {
	var stop, spins int64
	ended := make(chan bool)
	go func() {
		for atomic.LoadInt64(&stop) == 0 {
			spins++
		}
		ended <- spins > 0
	}()
	for i := 0; i < 3; i++ {
		time.Sleep(time.Millisecond)
	}
	atomic.StoreInt64(&stop, 1)
	fmt.Println("preemption", <-ended)
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "child" {
		child(os.Args[2])
	}
	goroutines()
	threads()
	poller()
	commands()
	signals()
	timers()
	garbage()
	preemption()
	fmt.Fprintln(os.Stderr, "done")
	os.Exit(7)
}
