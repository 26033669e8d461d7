<?php
// A shop in PHP whose e-mail addresses guard seals: it asks guard's agent, and holds no key. docs/FORMATS.md, section 12.
//   php shop.php SOCKET COLUMN ID ADDRESS      seals ADDRESS for row ID, opens it again, and says what finds the row
declare(strict_types=1);

final class Agent
{
    private $line;

    public function __construct(string $socket, string $service = 'shop')
    {
        $this->line = stream_socket_client("unix://$socket", $_, $why, 5) ?: throw new RuntimeException("guard: $why");
        stream_set_timeout($this->line, 10);
        $this->say(['op' => 'hello', 'oldest' => 1, 'newest' => 1, 'service' => $service]);
    }

    public function ask(string $op, array $args): array
    {
        return $this->say(['op' => $op, 'args' => (object) $args]);
    }

    private function say(array $message): array
    {
        $body = json_encode($message, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE);
        fwrite($this->line, pack('N', strlen($body)) . $body);
        $said = json_decode($this->read(unpack('N', $this->read(4))[1]), true, 64, JSON_THROW_ON_ERROR);
        return $said['ok'] ?? throw new RuntimeException("guard: {$said['error']['message']}", $said['error']['exit']);
    }

    private function read(int $length): string
    {
        for ($found = ''; strlen($found) < $length; $found .= $some) {
            $some = fread($this->line, $length - strlen($found));
            $some !== false && $some !== '' || throw new RuntimeException('guard: the agent does not answer');
        }
        return $found;
    }
}

[, $socket, $column, $id, $address] = $argv;
$agent = new Agent($socket);
$row = ['column' => $column, 'keys' => [[$id]]];
$sealed = $agent->ask('seal', $row + ['values' => [$address]]);   // both go into one INSERT or UPDATE
$opened = $agent->ask('open', $row + ['values' => $sealed['values']]);
$found = $agent->ask('token', ['column' => $column, 'values' => [$address]]);
$token = bin2hex(base64_decode($found['tokens'][$found['ready']][0]));
echo json_encode([
    'stored' => $sealed['values'][0], 'opened' => $opened['values'][0], 'where' => "{$found['ready']} = x'$token'",
]), "\n";
